#include "models/decoder/read_rope.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>

#include "framework/base/text.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMaxPositions = std::int64_t{1} << 40;

struct NamedType {
  std::string_view name;
  RopeType type;
};

constexpr auto kTypes = std::to_array<NamedType>({{"default", RopeType::standard},
                                                  {"dynamic", RopeType::dynamic},
                                                  {"linear", RopeType::linear},
                                                  {"llama3", RopeType::llama3},
                                                  {"mrope", RopeType::standard},
                                                  {"yarn", RopeType::yarn}});

RopeType type_under(const HfConfig& rope, const std::string& key) {
  const std::string name = rope.string(key);
  const auto* const found = std::find_if(
      kTypes.begin(), kTypes.end(), [&](const auto& each) { return each.name == name; });
  if (found == kTypes.end()) {
    rope.fail(key,
              "is '" + printable(name) +
                  "', which is not built yet; allowed: default, dynamic, linear, llama3, mrope, "
                  "yarn");
  }
  return found->type;
}

RopeType read_type(const HfConfig& rope) {
  std::optional<RopeType> type;
  for (const std::string key : {"rope_type", "type"}) {
    if (!rope.has(key)) {
      continue;
    }
    const RopeType here = type_under(rope, key);
    if (type && *type != here) {
      rope.fail(key, "differs from rope_type; allowed: one value");
    }
    type = here;
  }
  return type.value_or(RopeType::standard);
}

/// Frequencies of each row of 2-D positions where the file does not say: Qwen2-VL's proportions 2 :
/// 3 : 3. Positions of text have three equal rows, for which every division gives the same.
std::array<std::int64_t, 3> default_mrope_section(std::int64_t num_frequencies) {
  const std::int64_t temporal = num_frequencies / 4;
  const std::int64_t height = (num_frequencies - temporal) / 2;
  return {temporal, height, num_frequencies - temporal - height};
}

/// Interleaved, the frequencies of height and width are every third one from 1 and from 2.
void check_interleaved(const HfConfig& rope, const MropeSections& mrope, std::int64_t head_dim) {
  const std::int64_t most_height = (head_dim / 2 + 1) / 3;
  const std::int64_t most_width = head_dim / 2 / 3;
  if (mrope.section[1] > most_height || mrope.section[2] > most_width) {
    rope.fail("mrope_section",
              "with mrope_interleaved and head_dim " + std::to_string(head_dim) +
                  " must hold at most " + std::to_string(most_height) + " for the height and " +
                  std::to_string(most_width) + " for the width");
  }
}

MropeSections read_mrope(const HfConfig& rope, std::int64_t head_dim) {
  MropeSections mrope = {.section = default_mrope_section(head_dim / 2)};
  mrope.interleaved = rope.boolean_or("mrope_interleaved", false);
  if (rope.has("mrope_section")) {
    const auto sections = rope.integers_or_empty("mrope_section", {.min = 0});
    const std::int64_t sum = std::accumulate(sections.begin(), sections.end(), std::int64_t{0});
    if (sections.size() != 3 || sum != head_dim / 2) {
      rope.fail(
          "mrope_section",
          "must hold three numbers that add up to head_dim / 2 = " + std::to_string(head_dim / 2));
    }
    std::copy(sections.begin(), sections.end(), mrope.section.begin());
  } else if (mrope.interleaved) {
    rope.fail("mrope_section", "is missing, which mrope_interleaved needs");
  }
  if (mrope.interleaved) {
    check_interleaved(rope, mrope, head_dim);
  }
  return mrope;
}

/// As transformers looks for it: beside the rope object first, else in it, else the present bound.
std::int64_t read_original_length(const HfConfig& file, const HfConfig& rope) {
  const std::string key = "original_max_position_embeddings";
  const auto inner = rope.integer_or(key, 0, {.max = kMaxPositions});
  if (file.has(key)) {
    return file.integer(key, {.max = kMaxPositions});
  }
  return inner > 0 ? inner : file.integer("max_position_embeddings", {.max = kMaxPositions});
}

void read_yarn(const HfConfig& file, const HfConfig& rope, RopeParameters& parameters) {
  parameters.original_max_position_embeddings = read_original_length(file, rope);
  if (parameters.theta <= 1) {
    rope.fail("rope_theta", "must be above 1 where rope_type is yarn");
  }
  parameters.factor =
      rope.has("factor")
          ? rope.number("factor", 1)
          : static_cast<double>(file.integer("max_position_embeddings", {.max = kMaxPositions})) /
                static_cast<double>(parameters.original_max_position_embeddings);
  if (rope.has("attention_factor")) {
    parameters.attention_factor = rope.number("attention_factor", 0);
  }
  // 0 is as good as absent for these, as in transformers.
  const auto or_default = [&](const std::string& key, double missing) {
    const double value = rope.number_or(key, 0, 0);
    return value == 0 ? missing : value;
  };
  parameters.beta_fast = or_default("beta_fast", parameters.beta_fast);
  parameters.beta_slow = or_default("beta_slow", parameters.beta_slow);
  if (parameters.beta_fast < parameters.beta_slow) {
    rope.fail("beta_fast", "is below beta_slow; allowed: at least beta_slow");
  }
  parameters.mscale = rope.number_or("mscale", 0, 0);
  parameters.mscale_all_dim = rope.number_or("mscale_all_dim", 0, 0);
  parameters.truncate = rope.boolean_or("truncate", true);
}

void read_llama3(const HfConfig& file, const HfConfig& rope, RopeParameters& parameters) {
  parameters.original_max_position_embeddings = read_original_length(file, rope);
  parameters.factor = rope.number("factor", 1);
  parameters.low_freq_factor = rope.positive_number("low_freq_factor");
  parameters.high_freq_factor = rope.positive_number("high_freq_factor");
  if (parameters.high_freq_factor <= parameters.low_freq_factor) {
    rope.fail("high_freq_factor", "must be above low_freq_factor");
  }
}

/// Fills in what the rope object says; theta is already there.
void read_object(const HfConfig& file,
                 const HfConfig& rope,
                 std::int64_t head_dim,
                 PartialRotary partial,
                 RopeParameters& parameters) {
  parameters.type = read_type(rope);
  parameters.mrope = read_mrope(rope, head_dim);
  if (const auto factor = rope.optional_positive_number("partial_rotary_factor");
      partial == PartialRotary::refused && factor.value_or(1.0) != 1.0) {
    rope.fail("partial_rotary_factor", "is not 1, which is not built yet; allowed: 1");
  }
  switch (parameters.type) {
    case RopeType::standard:
      break;
    case RopeType::linear:
      parameters.factor = rope.number("factor", 1);
      break;
    case RopeType::dynamic:
      parameters.factor = rope.number("factor", 1);
      parameters.max_position_embeddings =
          file.integer("max_position_embeddings", {.max = kMaxPositions});
      break;
    case RopeType::yarn:
      read_yarn(file, rope, parameters);
      break;
    case RopeType::llama3:
      read_llama3(file, rope, parameters);
      break;
  }
  if (const auto others = rope.keys_not_asked(); !others.empty()) {
    rope.fail(printable(others.front()), "is not a key of this rope_type");
  }
}

/// The object of the layers with full attention, the only ones that are built.
HfConfig object_of_full_attention(const HfConfig& rope) {
  const std::string key = "full_attention";
  HfConfig inner = rope.object(key);
  if (const auto others = rope.keys_not_asked(); !others.empty()) {
    rope.fail(printable(others.front()),
              "is beside full_attention, and no such layers are built; allowed: full_attention "
              "alone");
  }
  return inner;
}

/// The rope object, if the file has one that holds something.
std::optional<HfConfig> find_object(const HfConfig& file) {
  std::optional<HfConfig> found;
  for (const std::string key : {"rope_scaling", "rope_parameters"}) {
    if (!file.has(key) || file.object(key).is_empty()) {
      continue;
    }
    if (found && file.value("rope_scaling") != file.value("rope_parameters")) {
      file.fail(key, "differs from rope_scaling; allowed: one of the two, or equal ones");
    }
    found = file.object(key);
  }
  if (found && found->has("full_attention")) {
    return object_of_full_attention(*found);
  }
  return found;
}

}  // namespace

RopeParameters read_rope(const HfConfig& file, std::int64_t rotary_dim, PartialRotary partial) {
  const std::optional<HfConfig> object = find_object(file);
  std::optional<double> theta = file.optional_positive_number("rope_theta");
  if (object) {
    if (const auto inner = object->optional_positive_number("rope_theta")) {
      if (theta && *theta != *inner) {
        object->fail("rope_theta",
                     "differs from another rope_theta of the file; allowed: one value");
      }
      theta = inner;
    }
  }
  if (!theta) {
    file.fail("rope_theta", "is missing, at the top level and in rope_parameters");
  }
  RopeParameters parameters = {.theta = *theta,
                               .mrope = {.section = default_mrope_section(rotary_dim / 2)}};
  if (object) {
    read_object(file, *object, rotary_dim, partial, parameters);
  }
  return parameters;
}

std::int64_t read_rotary_dim(const HfConfig& file, std::int64_t head_dim, double missing) {
  const std::string key = "partial_rotary_factor";
  const std::optional<HfConfig> object = find_object(file);
  const std::optional<double> outer = file.optional_positive_number(key);
  const auto inner = object ? object->optional_positive_number(key) : std::nullopt;
  if (outer && inner && *outer != *inner) {
    object->fail(key, "differs from another partial_rotary_factor of the file; allowed: one value");
  }
  const double factor = inner.value_or(outer.value_or(missing));
  const auto rotary_dim = static_cast<std::int64_t>(static_cast<double>(head_dim) * factor);
  if (rotary_dim < 2 || rotary_dim % 2 != 0 || rotary_dim > head_dim) {
    file.fail(key,
              "makes " + std::to_string(rotary_dim) + " of a head's " + std::to_string(head_dim) +
                  " elements turn; allowed: an even number of them");
  }
  return rotary_dim;
}

}  // namespace dovetail
