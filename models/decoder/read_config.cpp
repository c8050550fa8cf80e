#include "models/decoder/read_config.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "models/decoder/absent_keys.hpp"
#include "models/decoder/read_rope.hpp"
#include "models/weights/block_scaled.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMaxLayers = 100'000;

void check_divides(const HfConfig& file,
                   const std::string& part_key,
                   std::int64_t part,
                   const std::string& whole_key,
                   std::int64_t whole) {
  if (whole % part != 0) {
    file.fail(part_key,
              "is " + std::to_string(part) + "; allowed: a divisor of " + whole_key + " " +
                  std::to_string(whole));
  }
}

/// A key that may be missing must say this.
void check_text(const HfConfig& file, const std::string& key, const std::string& allowed) {
  if (file.string_or(key, allowed) != allowed) {
    file.fail(key, "is '" + printable(file.string(key)) + "'; allowed: " + allowed);
  }
}

/// A size that transformers 5 writes beside those that it follows from.
void check_size(const HfConfig& file, const std::string& key, std::int64_t size) {
  if (file.integer_or(key, size) != size) {
    file.fail(key,
              "is " + std::to_string(file.integer(key)) +
                  "; allowed with the other sizes: " + std::to_string(size));
  }
}

/// Weights may be published as floats of 8 bits with a factor for each block; they are computed
/// with as what they say, in the run's dtype.
void read_quantization(const HfConfig& file) {
  if (!file.has("quantization_config")) {
    return;
  }
  const HfConfig quantization = file.object("quantization_config");
  check_text(quantization, "quant_method", "fp8");
  check_text(quantization, "fmt", "e4m3");
  check_text(quantization, "activation_scheme", "dynamic");
  if (const auto factors = quantization.string_or("scale_fmt", "float");
      factors != "float" && factors != "ue8m0") {
    quantization.fail("scale_fmt", "is '" + printable(factors) + "'; allowed: float, ue8m0");
  }
  const auto block = quantization.integers_or_empty("weight_block_size", {});
  if (block != std::vector<std::int64_t>{kScaleBlock, kScaleBlock}) {
    quantization.fail("weight_block_size", "must be [128, 128]");
  }
  // What the tensors are is read from them, and they always become products of the run's dtype.
  quantization.has("modules_to_not_convert");
  quantization.has("ignored_layers");
  quantization.boolean_or("dequantize", false);
  if (const auto others = quantization.keys_not_asked(); !others.empty()) {
    quantization.fail(printable(others.front()),
                      "is not known, so it might change what is computed");
  }
}

/// What yarn multiplies the scale of softmax with where it is given mscale_all_dim.
double yarn_scale(const RopeParameters& rope) {
  if (rope.type != RopeType::yarn || rope.mscale_all_dim == 0 || rope.factor <= 1) {
    return 1;
  }
  const double mscale = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1;
  return mscale * mscale;
}

}  // namespace

HfConfig read_file_of(const std::string& path, const std::vector<std::string>& model_types) {
  HfConfig file = HfConfig::read(path);
  const std::string own = file.string("model_type");
  if (std::find(model_types.begin(), model_types.end(), own) == model_types.end()) {
    file.fail("model_type", "is '" + printable(own) + "'; allowed: " + join_names(model_types));
  }
  file.complete(absent_keys(model_types.front()));
  check_text(file, "hidden_act", "silu");
  return file;
}

void read_sizes(const HfConfig& file, MoeDecoderConfig& config) {
  config.vocab_size = file.integer("vocab_size");
  config.hidden_size = file.integer("hidden_size");
  config.rms_norm_eps = file.positive_number("rms_norm_eps");
  config.tie_word_embeddings = file.boolean("tie_word_embeddings");
  read_quantization(file);
  config.published_dtype = file.string_or("torch_dtype", file.string_or("dtype", ""));
}

void read_attention(const HfConfig& file, MoeDecoderConfig& config) {
  config.num_attention_heads = file.integer("num_attention_heads");
  config.num_key_value_heads = file.integer("num_key_value_heads");
  check_divides(file,
                "num_key_value_heads",
                config.num_key_value_heads,
                "num_attention_heads",
                config.num_attention_heads);
  if (file.has("head_dim")) {
    config.head_dim = file.integer("head_dim");
  } else {
    check_divides(file,
                  "num_attention_heads",
                  config.num_attention_heads,
                  "hidden_size (as head_dim is not given)",
                  config.hidden_size);
    config.head_dim = config.hidden_size / config.num_attention_heads;
  }
  if (config.head_dim % 2 != 0) {
    file.fail("head_dim",
              "is " + std::to_string(config.head_dim) +
                  "; allowed: an even number, as rotary embedding turns pairs");
  }
}

void read_latent_attention(const HfConfig& file, MoeDecoderConfig& config) {
  // The norms of latents have this epsilon in transformers, whatever rms_norm_eps is.
  constexpr double norm_epsilon = 1e-6;
  config.num_attention_heads = file.integer("num_attention_heads");
  config.num_key_value_heads = config.num_attention_heads;
  check_size(file, "num_key_value_heads", config.num_attention_heads);
  LatentAttentionDims dims;
  dims.heads = config.num_attention_heads;
  dims.qk_nope_head_dim = file.integer("qk_nope_head_dim");
  dims.qk_rope_head_dim = file.integer("qk_rope_head_dim");
  dims.v_head_dim = file.integer("v_head_dim");
  dims.kv_lora_rank = file.integer("kv_lora_rank");
  dims.q_lora_rank = file.integer_or("q_lora_rank", 0);
  dims.norm_epsilon = norm_epsilon;
  if (dims.qk_rope_head_dim % 2 != 0) {
    file.fail("qk_rope_head_dim", "is odd; allowed: an even number, as pairs turn");
  }
  check_size(file, "head_dim", dims.qk_rope_head_dim);
  check_size(file, "qk_head_dim", dims.query_size());
  config.head_dim = dims.qk_rope_head_dim;
  config.rope = read_rope(file, config.head_dim);
  dims.softmax_scale = yarn_scale(config.rope) / std::sqrt(static_cast<double>(dims.query_size()));
  config.qkv_bias = file.boolean("attention_bias");
  config.output_bias = config.qkv_bias;
  config.latent = dims;
}

void read_experts(const HfConfig& file, MoeDecoderConfig& config) {
  // transformers 5 writes num_local_experts.
  const bool both = file.has("num_experts") && file.has("num_local_experts");
  const std::string key = file.has("num_local_experts") ? "num_local_experts" : "num_experts";
  config.num_experts = file.integer(key, {.max = 1 << 20});
  if (both && file.integer("num_experts") != config.num_experts) {
    file.fail("num_local_experts", "differs from num_experts; allowed: one value");
  }
  config.router.top_k = file.integer("num_experts_per_tok", {.max = config.num_experts});
}

void read_routed_experts(const HfConfig& file, MoeDecoderConfig& config) {
  config.num_experts = file.integer("n_routed_experts", {.max = 1 << 20});
  config.router.top_k = file.integer("num_experts_per_tok", {.max = config.num_experts});
  config.moe_intermediate_size = file.integer("moe_intermediate_size");
  config.router.scale = file.positive_number("routed_scaling_factor");
  read_shared_experts(file, config);
}

void read_shared_experts(const HfConfig& file, MoeDecoderConfig& config) {
  config.shared_intermediate_size =
      config.moe_intermediate_size * file.integer("n_shared_experts", {.min = 0, .max = 1024});
}

void read_expert_groups(const HfConfig& file, GroupScore score, MoeDecoderConfig& config) {
  const std::int64_t groups = file.integer("n_group", {.max = config.num_experts});
  check_divides(file, "n_group", groups, "n_routed_experts", config.num_experts);
  const std::int64_t chosen = file.integer("topk_group", {.max = groups});
  const std::int64_t size = config.num_experts / groups;
  if (score == GroupScore::sum_of_two && chosen < groups && size < 2) {
    file.fail("n_group", "makes groups of one expert; allowed: groups of two and more");
  }
  if (config.router.top_k > chosen * size) {
    file.fail("topk_group",
              "is " + std::to_string(chosen) + ", and groups of " + counted(size, "expert") +
                  " then hold fewer than num_experts_per_tok " +
                  std::to_string(config.router.top_k));
  }
  config.router.groups = {.num_groups = static_cast<int>(groups),
                          .num_chosen = static_cast<int>(chosen),
                          .score = score};
}

void read_sigmoid_router(const HfConfig& file, MoeDecoderConfig& config) {
  check_text(file, "scoring_func", "sigmoid");
  check_text(file, "topk_method", "noaux_tc");
  config.router.score = RouterScore::sigmoid;
  config.router.is_float32 = true;
  config.router.normalize = file.boolean("norm_topk_prob");
  config.has_router_bias = true;
  read_expert_groups(file, GroupScore::sum_of_two, config);
}

void read_dense_first_layers(const HfConfig& file, MoeDecoderConfig& config) {
  read_layer_types(file, config);
  const auto dense = file.integer("first_k_dense_replace", {.min = 0, .max = kMaxLayers});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    config.is_moe_layer.push_back(layer >= dense);
  }
  config.intermediate_size =
      dense > 0 ? file.integer("intermediate_size") : file.integer_or("intermediate_size", 0);
}

void read_layer_types(const HfConfig& file, MoeDecoderConfig& config) {
  config.num_hidden_layers = file.integer("num_hidden_layers", {.max = kMaxLayers});
  const auto types = file.strings_or_empty("layer_types");
  for (const auto& type : types) {
    if (type != "full_attention") {
      file.fail("layer_types",
                "holds '" + printable(type) + "', which is not built yet; allowed: full_attention");
    }
  }
  if (!types.empty() && std::ssize(types) != config.num_hidden_layers) {
    file.fail("layer_types",
              "holds " + std::to_string(types.size()) + " entries; allowed: num_hidden_layers " +
                  std::to_string(config.num_hidden_layers));
  }
}

// A layer is dense if it is listed, or if its number counted from 1 is no multiple of the step.
void read_layers(const HfConfig& file, MoeDecoderConfig& config) {
  read_layer_types(file, config);
  const std::int64_t step = file.integer("decoder_sparse_step");
  // As in transformers, the list may name layers that a file was cut to leave out.
  const auto dense = file.integers_or_empty("mlp_only_layers", {.min = 0, .max = kMaxLayers});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const bool listed = std::find(dense.begin(), dense.end(), layer) != dense.end();
    config.is_moe_layer.push_back(!listed && (layer + 1) % step == 0);
  }
  const bool has_dense_layer =
      std::find(config.is_moe_layer.begin(), config.is_moe_layer.end(), false) !=
      config.is_moe_layer.end();
  const auto of_dense_layers = file.integer_or("intermediate_size", 0);
  config.intermediate_size = has_dense_layer ? file.integer("intermediate_size") : of_dense_layers;
}

void refuse_sliding_windows(const HfConfig& file) {
  if (file.boolean("use_sliding_window")) {
    file.fail("use_sliding_window", "is true; sliding windows are not built yet; allowed: false");
  }
  file.has("sliding_window");
}

}  // namespace dovetail
