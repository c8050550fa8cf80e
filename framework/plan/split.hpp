// How a rank's batch is cut into ubatches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/batch.hpp"

namespace dovetail {

/// The kinds of cut: token_midpoint makes equal token counts and may cut inside a request. request
/// takes the best balance on the boundaries of requests. balanced takes the best balance of cost
/// and may cut inside a request. sizes takes the numbers of tokens that the experiment states, as
/// they are; the last ubatch takes what is left.
struct SplitRule {
  std::string kind = "token_midpoint";  ///< token_midpoint, request, balanced, sizes
  std::vector<std::int64_t>
      sizes;            ///< for kind "sizes": tokens of each ubatch; the last ubatch takes the rest
  double key_cost = 0;  ///< for kind "balanced": cost of one more key that a token attends to, in
                        ///< costs of a token's linear layers; >= 0

  friend bool operator==(const SplitRule&, const SplitRule&) = default;
};

/// How a policy cuts a batch. `balanced` weighs a key against a token's linear layers by the
/// model's own counts of operations, flops_per_key over flops_per_token (0 = keys cost nothing).
SplitRule split_rule(const SplitConfig& split, double flops_per_token, double flops_per_key);

/// Names with a line on each, for `dovetail info`.
const std::vector<Description>& split_kinds();

/// Exactly num_ubatches slices that cover the batch in order; slices may be empty. Throws
/// InputError for sizes whose number is not num_ubatches, and ContractError for num_ubatches < 1.
std::vector<UbatchSlice> split_batch(const Batch& batch, const SplitRule& rule, int num_ubatches);

/// What tokens [token_start, token_start + num_tokens) cost: the token at position p of its
/// request, context counted, costs 1 + key_cost * (p + 1), since it attends to p + 1 keys.
double token_range_cost(const Batch& batch,
                        double key_cost,
                        std::int64_t token_start,
                        std::int64_t num_tokens);

/// Token boundaries [num_parts + 1] of kind "request": all of them in `starts`, the first token of
/// each request and the total at the end, [requests + 1]. Of all cuts with the smallest largest
/// part those with the smallest sum of squares, so that no ubatch stays empty for nothing; of these
/// the one whose first cut is earliest, then the second, and so on. Takes n log n steps.
std::vector<std::int64_t> request_boundaries(const std::vector<std::int64_t>& starts,
                                             int num_parts);

/// Token boundaries [num_parts + 1] of kind "balanced". Of all cuts between tokens it takes those
/// whose largest part costs least, exactly. Among these each part, from the front, is the one whose
/// cost is nearest to an equal share of what is left; of two that are equally near, the smaller.
/// Throws ContractError for key_cost < 0 and for 2^31 tokens or more.
std::vector<std::int64_t> balanced_boundaries(const Batch& batch, double key_cost, int num_parts);

/// The slice of tokens [token_start, token_start + num_tokens) of the batch.
UbatchSlice slice_tokens(const Batch& batch, std::int64_t token_start, std::int64_t num_tokens);

}  // namespace dovetail
