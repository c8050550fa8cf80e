// The policy that cuts the experts of a rank in place of the batch: while the rows of one group of
// experts travel, another group computes.
#pragma once

#include <string>

#include "framework/plan/policy.hpp"

namespace dovetail {

/// A MoE layer with G groups is two rounds of turns, ubatch 0 to N-1 in each:
///   attention, route, dispatch of the groups 0 to G-1 (comm);
///   then, group by group, experts and combine (comm).
/// So the experts of a group run beside the dispatches of later groups and the combines of earlier
/// ones, and attention is whole: with one ubatch no weight is read twice. The dispatch of the first
/// group and the combine of the last one have nothing of their layer beside them but the shared
/// experts, which stand behind the dispatches with one ubatch (as in shared_expert) and behind the
/// combines with more (as in dual_batch). All dispatches come before all combines: experts wait for
/// a dispatch at once, for a combine nobody waits before the next attention. Throws InputError
/// unless 1 <= num_ubatches <= kMaxUbatches and 1 <= num_groups <= kMaxGroups.
Schedule make_expert_groups(const PolicyInput& input);

/// Throws InputError naming policy, number and what is allowed unless 1 <= num_groups <=
/// kMaxGroups.
void check_num_groups(const std::string& policy, int num_groups);

}  // namespace dovetail
