#include "models/decoder/read_config.hpp"

#include <algorithm>
#include <iterator>

#include "framework/base/text.hpp"

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

}  // namespace

void check_kind(const HfConfig& file, const std::string& model_type) {
  if (file.string("model_type") != model_type) {
    file.fail("model_type",
              "is '" + printable(file.string("model_type")) + "'; allowed: " + model_type);
  }
  if (file.string_or("hidden_act", "silu") != "silu") {
    file.fail("hidden_act", "is '" + printable(file.string("hidden_act")) + "'; allowed: silu");
  }
}

void read_sizes(const HfConfig& file, MoeDecoderConfig& config) {
  config.vocab_size = file.integer("vocab_size");
  config.hidden_size = file.integer("hidden_size");
  config.rms_norm_eps = file.positive_number("rms_norm_eps");
  config.tie_word_embeddings = file.boolean_or("tie_word_embeddings", false);
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

void read_experts(const HfConfig& file, MoeDecoderConfig& config) {
  // transformers 5 writes num_local_experts.
  const bool both = file.has("num_experts") && file.has("num_local_experts");
  const std::string key = file.has("num_local_experts") ? "num_local_experts" : "num_experts";
  config.num_experts = file.integer(key, {.max = 1 << 20});
  if (both && file.integer("num_experts") != config.num_experts) {
    file.fail("num_local_experts", "differs from num_experts; allowed: one value");
  }
  config.num_experts_per_tok = file.integer("num_experts_per_tok", {.max = config.num_experts});
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
  const std::int64_t step = file.integer_or("decoder_sparse_step", 1);
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
  if (file.boolean_or("use_sliding_window", false)) {
    file.fail("use_sliding_window", "is true; sliding windows are not built yet; allowed: false");
  }
  file.has("sliding_window");
}

}  // namespace dovetail
