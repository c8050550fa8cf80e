// How a rank's batch is cut into ubatches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/batch.hpp"

namespace dovetail {

/// token_midpoint: equal token counts, may cut inside a request; request: the best balance on
/// request boundaries; balanced: the best balance of cost, may cut inside a request; explicit
/// sizes: tokens of each ubatch as the experiment states them, scaled to nothing (the last takes
/// what is left).
struct SplitRule {
  std::string kind = "token_midpoint";  ///< token_midpoint, request, balanced, sizes
  std::vector<std::int64_t>
      sizes;            ///< for kind "sizes": tokens of each ubatch; the last ubatch takes the rest
  double key_cost = 0;  ///< for kind "balanced": cost of one more key that a token attends to, in
                        ///< costs of a token's linear layers; >= 0

  friend bool operator==(const SplitRule&, const SplitRule&) = default;
};

/// How a policy cuts a batch; `balanced` weighs a key against a token's linear layers by the
/// model's own operation counts, flops_per_key over flops_per_token (0 = keys cost nothing).
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

/// Token boundaries [num_parts + 1] of kind "balanced": of all cuts between tokens those whose
/// largest part costs least, exactly; of these, part by part from the front, the one whose cost is
/// nearest to an equal share of what is left (of two equally near the smaller part). Throws
/// ContractError for key_cost < 0 and for 2^31 tokens or more.
std::vector<std::int64_t> balanced_boundaries(const Batch& batch, double key_cost, int num_parts);

/// The slice of tokens [token_start, token_start + num_tokens) of the batch.
UbatchSlice slice_tokens(const Batch& batch, std::int64_t token_start, std::int64_t num_tokens);

}  // namespace dovetail
