// What dual_batch and expert_groups have in common: ubatches that take turns behind the dispatches
// and behind the combines of a layer.
#pragma once

#include <string>

#include "framework/plan/policy.hpp"

namespace dovetail {

/// A MoE layer is two rounds of turns, ubatch 0 to N-1 in each:
///   attention, route, dispatch of each group (comm);
///   then, group by group, experts and combine (comm).
/// The shared experts stand behind the dispatches where there is one ubatch, behind the combines
/// where there are more. Dense layers, embed and output belong to the turn that they fall into.
/// Takes every number of ubatches and groups from 1 on.
Schedule make_turns(const std::string& name, const PolicyInput& input);

}  // namespace dovetail
