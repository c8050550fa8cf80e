// The baseline: one ubatch, every op on the compute lane, in the order of the model's own code.
#pragma once

#include "framework/plan/policy.hpp"

namespace dovetail {

/// Throws InputError unless there is exactly one ubatch.
Schedule make_sequential(const PolicyInput& input);

}  // namespace dovetail
