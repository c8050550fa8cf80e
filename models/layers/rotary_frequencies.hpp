// The angles that a rotary embedding turns by for each position, and how models that were made for
// short contexts stretch them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// Which row of 2-D positions a frequency takes its angle from (M-RoPE, arXiv:2409.12191).
struct MropeSections {
  /// How many frequencies take it from the temporal, the height and the width row; they add up to
  /// head_dim / 2.
  std::array<std::int64_t, 3> section = {};
  /// false: the first section[0] frequencies are temporal, the next are height, the last are width
  /// (Qwen2-VL). true: they take turns (Qwen3-VL): frequency i is of the height if i % 3 == 1 and i
  /// < 3 section[1], of the width if i % 3 == 2 and i < 3 section[2], else temporal.
  bool interleaved = false;
};

/// How frequencies are scaled, by the names of Hugging Face (modeling_rope_utils.py of
/// transformers 5.17).
enum class RopeType {
  standard,  ///< "default": not at all
  linear,    ///< all divided by factor
  dynamic,   ///< another theta beyond max_position_embeddings; up to there as standard
  yarn,      ///< low ones divided, high ones kept, a ramp between (arXiv:2309.00071)
  llama3     ///< the same, with the ramp over wavelengths
};

/// Field names and meaning as in a config.json's rope_parameters.
struct RopeParameters {
  RopeType type = RopeType::standard;
  double theta = 0;
  MropeSections mrope;                                ///< mrope_section and mrope_interleaved
  double factor = 1;                                  ///< of all types but standard; >= 1
  std::int64_t max_position_embeddings = 0;           ///< dynamic
  std::int64_t original_max_position_embeddings = 0;  ///< yarn, llama3
  // yarn
  std::optional<double> attention_factor;  ///< none = from factor and the mscales
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;  ///< 0 = not given, as the next
  double mscale_all_dim = 0;
  bool truncate = true;  ///< the ramp begins and ends at whole frequencies
  // llama3
  double low_freq_factor = 1;
  double high_freq_factor = 4;
};

struct RotaryFrequencies {
  at::Tensor values;            ///< [head_dim / 2] float32, on the CPU: angle per position
  double attention_factor = 1;  ///< that cosines and sines are multiplied with
};

/// head_dim is even. Computed in float32 and in the order of steps of transformers: at position
/// 2000 an angle in float32 is off by 1e-4, so only equal steps give equal angles. The frequencies
/// of `dynamic` are those of positions below max_position_embeddings.
RotaryFrequencies rotary_frequencies(const RopeParameters& rope, std::int64_t head_dim);

}  // namespace dovetail
