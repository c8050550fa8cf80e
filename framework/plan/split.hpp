// How a rank's batch is cut into ubatches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/plan/batch.hpp"

namespace dovetail {

/// token_midpoint: equal token counts, may cut inside a request; request: the best balance on
/// request boundaries; explicit sizes: tokens of each ubatch as the experiment states them, scaled
/// to nothing (the last takes what is left).
struct SplitRule {
  std::string kind = "token_midpoint";  ///< token_midpoint, request, sizes
  std::vector<std::int64_t>
      sizes;  ///< for kind "sizes": tokens of each ubatch; the last ubatch takes the rest

  friend bool operator==(const SplitRule&, const SplitRule&) = default;
};

/// Names with a line on each, for `dovetail info`.
const std::vector<Description>& split_kinds();

/// Exactly num_ubatches slices that cover the batch in order; slices may be empty. Throws
/// InputError for sizes whose number is not num_ubatches, and ContractError for num_ubatches < 1.
std::vector<UbatchSlice> split_batch(const Batch& batch, const SplitRule& rule, int num_ubatches);

/// The slice of tokens [token_start, token_start + num_tokens) of the batch.
UbatchSlice slice_tokens(const Batch& batch, std::int64_t token_start, std::int64_t num_tokens);

}  // namespace dovetail
