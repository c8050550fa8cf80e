// Rotary embeddings as a config.json states them.
#pragma once

#include <cstdint>

#include "models/hf_config.hpp"
#include "models/layers/rotary_frequencies.hpp"

namespace dovetail {

/// Reads rope_theta and the rope object, in every spelling: rope_scaling of transformers 4 (with
/// `rope_type` or `type`) beside rope_theta; rope_parameters of transformers 5, flat or nested by
/// layer type ({"full_attention": {...}}). Type `mrope` is `default` with its sections. Throws
/// InputError by the key's full name for types that are not built, for keys that the type does not
/// have, and for values that contradict each other.
RopeParameters read_rope(const HfConfig& file, std::int64_t head_dim);

}  // namespace dovetail
