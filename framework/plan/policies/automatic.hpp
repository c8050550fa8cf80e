// The policy that may decide against overlap: what it runs where it decides for it.
#pragma once

#include "framework/plan/policy.hpp"

namespace dovetail {

/// The overlap policy of this name, of two ubatches or more, whose schedule auto runs. That a step
/// runs it, and not sequential, is decided step by step: decide() in framework/plan/agreement.hpp.
/// Throws InputError, saying what is allowed, for any other name.
const Policy& find_candidate(const std::string& candidate);

}  // namespace dovetail
