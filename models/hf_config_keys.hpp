// What is done with the keys of a config.json that an architecture does not read.
#pragma once

#include "models/hf_config.hpp"

namespace dovetail {

/// Throws InputError for a key that nobody has asked `file` for. Allowed are keys that say nothing
/// of what a forward pass computes, and keys of features that are not built with the value that
/// switches these off.
void refuse_other_keys(const HfConfig& file);

}  // namespace dovetail
