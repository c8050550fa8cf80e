// The rules of one policy's schedule: the overlap policy and the keys that go with it. A part of
// validate.cpp.
#pragma once

#include <string>

#include "framework/config/validate.hpp"

namespace dovetail {

/// Throws InputError, at the place of the value, for an unknown overlap policy or split, keys that
/// belong to another overlap policy, stages that break a rule, groups of experts where they
/// are not cut, auto without a table or with a
/// candidate that it cannot choose, and numbers of ubatches, sizes or thresholds that do not fit.
/// `path` is the policy's ("policies[1]").
void check_policy_schedule(const LoadedExperiment& loaded,
                           const Capabilities& capabilities,
                           const std::string& path,
                           const PolicyConfig& policy);

}  // namespace dovetail
