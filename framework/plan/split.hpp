// How a rank's batch is cut into ubatches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/batch.hpp"

namespace dovetail {

/// What one more key costs that a token attends to, in costs of a token's linear layers; >= 0.
struct KeyCosts {
  double of_several = 0;  ///< to a token of a request that has several in the batch
  double of_only = 0;     ///< to a request's only token

  friend bool operator==(const KeyCosts&, const KeyCosts&) = default;
};

/// The kinds of cut: token_midpoint makes equal token counts and may cut inside a request. request
/// takes the best balance on the boundaries of requests. balanced takes the best balance of cost
/// and may cut inside a request. sizes takes the numbers of tokens that the experiment states, as
/// they are; the last ubatch takes what is left.
struct SplitRule {
  std::string kind = "token_midpoint";  ///< token_midpoint, request, balanced, sizes
  std::vector<std::int64_t>
      sizes;          ///< for kind "sizes": tokens of each ubatch; the last ubatch takes the rest
  KeyCosts key_cost;  ///< for kind "balanced"

  friend bool operator==(const SplitRule&, const SplitRule&) = default;
};

/// What `balanced` weighs, by the model's own counts and the machine's balance.
struct WorkCosts {
  double flops_per_token = 0;     ///< of the linear layers
  double flops_per_key = 0;       ///< of one of several tokens
  double flops_per_only_key = 0;  ///< of a request's only token
  double bytes_per_only_key = 0;  ///< of the cache, which no other token of the batch reads
  double flops_per_byte = 0;      ///< that the device does in the time in which it reads a byte
};

/// How a policy cuts a batch. Several tokens read a key together, so it costs its operations; to
/// an only token it costs its operations or its bytes, whichever take longer (roofline; Williams
/// et al., doi:10.1145/1498765.1498785). Without flops_per_token keys cost nothing.
SplitRule split_rule(const SplitConfig& split, const WorkCosts& costs);

/// Names with a line on each, for `dovetail info`.
const std::vector<Description>& split_kinds();

/// Exactly num_ubatches slices that cover the batch in order; slices may be empty. Throws
/// InputError for sizes whose number is not num_ubatches, and ContractError for num_ubatches < 1.
std::vector<UbatchSlice> split_batch(const Batch& batch, const SplitRule& rule, int num_ubatches);

/// What tokens [token_start, token_start + num_tokens) cost: the token at position p of its
/// request, context counted, costs 1 + key_cost * (p + 1), since it attends to p + 1 keys.
double token_range_cost(const Batch& batch,
                        const KeyCosts& key_cost,
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
/// Throws ContractError for a cost < 0 and for 2^31 tokens or more.
std::vector<std::int64_t> balanced_boundaries(const Batch& batch,
                                              const KeyCosts& key_cost,
                                              int num_parts);

/// The slice of tokens [token_start, token_start + num_tokens) of the batch.
UbatchSlice slice_tokens(const Batch& batch, std::int64_t token_start, std::int64_t num_tokens);

}  // namespace dovetail
