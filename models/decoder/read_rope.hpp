// Rotary embeddings as a config.json states them.
#pragma once

#include <cstdint>

#include "models/hf_config.hpp"
#include "models/layers/rotary_frequencies.hpp"

namespace dovetail {

/// What is done with partial_rotary_factor: all but 1 is refused, or read_rotary_dim reads it.
enum class PartialRotary { refused, read };

/// Reads rope_theta and the rope object, in every spelling: rope_scaling of transformers 4 (with
/// `rope_type` or `type`) beside rope_theta; rope_parameters of transformers 5, flat or nested by
/// layer type ({"full_attention": {...}}). Type `mrope` is `default` with its sections. Throws
/// InputError by the key's full name for types that are not built, for keys that the type does not
/// have, and for values that contradict each other.
/// `rotary_dim`: elements of a head that turn.
RopeParameters read_rope(const HfConfig& file,
                         std::int64_t rotary_dim,
                         PartialRotary partial = PartialRotary::refused);

/// The elements of a head that turn, from partial_rotary_factor in the rope object or beside it;
/// `missing` where neither is there. Throws InputError for a number of elements that is odd or 0.
std::int64_t read_rotary_dim(const HfConfig& file, std::int64_t head_dim, double missing);

}  // namespace dovetail
