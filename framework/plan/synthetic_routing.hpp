// Expert ids that no router chose: balanced, or with a popularity that falls by a power law. Pure
// functions of seeds and tokens, so equal on every grid and for every policy.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/plan/expert_groups.hpp"
#include "framework/plan/workload.hpp"

namespace dovetail {

/// True for balanced and zipf.
bool is_synthetic(const RoutingConfig& routing);

/// Expert ids [num_layers, tokens, top_k] of a step, distinct within a token. Layer l of the result
/// is layer first_layer + l of the model.
///
/// balanced: the (token, choice) pairs of a step, in order of global_index, take the experts in
/// turn. Their order is drawn anew for each layer, and again whenever every expert has had its turn
/// equally often at the end of a token. So after any number of tokens every expert has the same
/// number of pairs, to within one, and so has every one of d equal blocks of experts, that is,
/// every rank of an ep group of d: for each d that is a product of the smallest prime factors of
/// num_experts (for a power of two, each d that divides it). A token's experts lie on as many ranks
/// as it has choices, which is the most rows that a dispatch can carry.
///
/// zipf: the e-th most popular expert, e from 0, has weight (e + 1)^-exponent; which expert that is
/// is drawn for each layer. The choices of a token are drawn by weight one after the other without
/// replacement, by (seed, layer, request, position): the experts with the smallest of independent
/// exponential variates with these rates (Efraimidis and Spirakis, "Weighted random sampling with a
/// reservoir", 2006), in that order.
///
/// Where `groups` are limited, a token's experts are of no more than num_chosen of them:
/// - balanced: the groups take turns, and in each group its experts. Each group has had k pairs
///   whenever a multiple of num_groups tokens is through, and each expert equally many whenever a
///   group's turns end with an expert's.
/// - zipf: of the groups whose first experts would be drawn first.
///
/// Every variant of a batch has other orders and draws.
///
/// ContractError unless `routing` is synthetic, 1 <= top_k <= num_experts, and the chosen groups
/// hold top_k experts.
std::vector<std::int64_t> synthetic_expert_ids(const RoutingConfig& routing,
                                               std::uint64_t seed,
                                               int num_layers,
                                               int first_layer,
                                               int num_experts,
                                               int top_k,
                                               const StepWorkload& step,
                                               const ExpertGroups& groups = {});

}  // namespace dovetail
