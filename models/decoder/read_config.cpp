#include "models/decoder/read_config.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "framework/base/text.hpp"
#include "models/hf_config.hpp"

namespace dovetail {
namespace {

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

/// Frequencies of each row of 2-D positions where the file does not say: Qwen2-VL's proportions 2 :
/// 3 : 3. Positions of text have three equal rows, for which every division gives the same.
std::array<std::int64_t, 3> default_mrope_section(std::int64_t num_frequencies) {
  const std::int64_t temporal = num_frequencies / 4;
  const std::int64_t height = (num_frequencies - temporal) / 2;
  return {temporal, height, num_frequencies - temporal - height};
}

void read_mrope_section(const HfConfig& rope, MoeDecoderConfig& config) {
  const auto sections = rope.integers_or_empty("mrope_section", {.min = 0});
  const std::int64_t sum = std::accumulate(sections.begin(), sections.end(), std::int64_t{0});
  if (sections.size() != 3 || sum != config.head_dim / 2) {
    rope.fail("mrope_section",
              "must hold three numbers that add up to head_dim / 2 = " +
                  std::to_string(config.head_dim / 2));
  }
  std::copy(sections.begin(), sections.end(), config.mrope.section.begin());
}

/// Interleaved, the frequencies of height and width are every third one from 1 and from 2.
void read_mrope_interleaved(const HfConfig& rope, MoeDecoderConfig& config) {
  config.mrope.interleaved = rope.boolean_or("mrope_interleaved", false);
  if (!config.mrope.interleaved) {
    return;
  }
  const std::int64_t num_frequencies = config.head_dim / 2;
  const std::int64_t most_height = (num_frequencies + 1) / 3;
  const std::int64_t most_width = num_frequencies / 3;
  const auto& section = config.mrope.section;
  if (section[1] > most_height || section[2] > most_width) {
    rope.fail("mrope_section",
              "with mrope_interleaved and head_dim " + std::to_string(config.head_dim) +
                  " must hold at most " + std::to_string(most_height) + " for the height and " +
                  std::to_string(most_width) + " for the width");
  }
}

}  // namespace

void refuse_what_is_not_built(const HfConfig& file, const std::string& model_type) {
  if (file.string("model_type") != model_type) {
    file.fail("model_type",
              "is '" + printable(file.string("model_type")) + "'; allowed: " + model_type);
  }
  if (file.string_or("hidden_act", "silu") != "silu") {
    file.fail("hidden_act", "is '" + printable(file.string("hidden_act")) + "'; allowed: silu");
  }
  if (file.has("quantization_config")) {
    file.fail("quantization_config",
              "asks for quantized weights, which are not built yet; allowed: none");
  }
  if (file.boolean_or("use_sliding_window", false)) {
    file.fail("use_sliding_window", "is true; sliding windows are not built yet; allowed: false");
  }
  for (const auto& type : file.strings_or_empty("layer_types")) {
    if (type != "full_attention") {
      file.fail("layer_types",
                "holds '" + printable(type) + "', which is not built yet; allowed: full_attention");
    }
  }
  if (file.optional_positive_number("partial_rotary_factor").value_or(1.0) != 1.0) {
    file.fail("partial_rotary_factor",
              "is not 1; rotating a part of a head is not built yet; allowed: 1");
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
  config.attention_bias = file.boolean_or("attention_bias", false);
}

// transformers 4: rope_theta beside rope_scaling (null, or {"rope_type" or "type", ...}).
// transformers 5: rope_parameters {"rope_theta", "rope_type"}.
void read_rope(const HfConfig& file, MoeDecoderConfig& config) {
  config.mrope.section = default_mrope_section(config.head_dim / 2);
  std::optional<double> theta = file.optional_positive_number("rope_theta");
  for (const std::string key : {"rope_scaling", "rope_parameters"}) {
    if (!file.has(key)) {
      continue;
    }
    const HfConfig rope = file.object(key);
    for (const std::string type_key : {"rope_type", "type"}) {
      const std::string type = rope.string_or(type_key, "default");
      if (type != "default") {
        rope.fail(type_key,
                  "is '" + printable(type) + "', which is not built yet; allowed: default");
      }
    }
    if (rope.optional_positive_number("partial_rotary_factor").value_or(1.0) != 1.0) {
      rope.fail("partial_rotary_factor", "is not 1, which is not built yet; allowed: 1");
    }
    if (const auto inner = rope.optional_positive_number("rope_theta")) {
      if (theta && *theta != *inner) {
        rope.fail("rope_theta", "differs from another rope_theta of the file; allowed: one value");
      }
      theta = inner;
    }
    if (rope.has("mrope_section")) {
      read_mrope_section(rope, config);
    } else if (rope.boolean_or("mrope_interleaved", false)) {
      rope.fail("mrope_section", "is missing, which mrope_interleaved needs");
    }
    if (rope.has("mrope_interleaved")) {
      read_mrope_interleaved(rope, config);
    }
  }
  if (!theta) {
    file.fail("rope_theta", "is missing, at the top level and in rope_parameters");
  }
  config.rope_theta = *theta;
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
  config.moe_intermediate_size = file.integer("moe_intermediate_size");
  config.norm_topk_prob = file.boolean("norm_topk_prob");
}

// A layer is dense if it is listed, or if its number counted from 1 is no multiple of the step.
void read_layers(const HfConfig& file, MoeDecoderConfig& config) {
  config.num_hidden_layers = file.integer("num_hidden_layers", {.max = 100'000});
  const std::int64_t step = file.integer_or("decoder_sparse_step", 1);
  const auto dense =
      file.integers_or_empty("mlp_only_layers", {.min = 0, .max = config.num_hidden_layers - 1});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const bool listed = std::find(dense.begin(), dense.end(), layer) != dense.end();
    config.is_moe_layer.push_back(!listed && (layer + 1) % step == 0);
  }
  const bool has_dense_layer =
      std::find(config.is_moe_layer.begin(), config.is_moe_layer.end(), false) !=
      config.is_moe_layer.end();
  config.intermediate_size = has_dense_layer ? file.integer("intermediate_size") : 0;
}

}  // namespace dovetail
