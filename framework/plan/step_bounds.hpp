// The sizes that all ranks agree on before a step. Padded inputs, messages of fixed size and
// captured graphs are made for them, so that they are the same on every rank.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "framework/base/types.hpp"

namespace dovetail {

/// Each number is the largest over the ranks. Entries behind num_ubatches are 0.
struct StepBounds {
  int num_ubatches = 1;
  std::array<std::int64_t, kMaxUbatches> tokens{};    ///< of each ubatch
  std::array<std::int64_t, kMaxUbatches> segments{};  ///< parts of requests in each ubatch
  std::array<std::int64_t, kMaxUbatches> keys{};      ///< of each ubatch: sum over its segments of
                                                      ///< context and query length
  std::array<std::int64_t, kMaxUbatches> context{};   ///< longest context of a segment of each
                                                      ///< ubatch; 0 = none has one
  std::int64_t query_length = 0;                      ///< longest query of a request
  std::int64_t key_length = 0;                        ///< longest context and query of a request

  friend bool operator==(const StepBounds&, const StepBounds&) = default;
};

/// Multiples to which padded_bounds rounds up; kernels' grids follow key_length.
inline constexpr std::int64_t kKeyLengthStep = 256;
inline constexpr std::int64_t kKeysStep = 1024;

/// What all steps of a policy's iteration have in common, on all ranks; known before the first one.
struct BoundsRule {
  /// Ascending; the tokens of each ubatch are rounded up to the next of these, more than the
  /// largest stay as they are. Empty = no rounding.
  std::vector<std::int64_t> token_sizes;
  StepBounds widest_split;  ///< the largest of each number over the steps, cut into ubatches
  StepBounds widest_whole;  ///< the same of the steps as one ubatch
  int num_shapes = 0;       ///< different bounds that the steps are padded to, cut or whole
};

/// The bounds that a step is padded to, of exact ones. Whatever costs no time is as large as the
/// widest step needs, so that steps whose contexts grow share a graph: segments, keys, contexts
/// (but 0 stays 0: attention over no context is another kernel), key_length, and query_length
/// unless each request has one token. Tokens, whose padding costs time in every layer, are rounded
/// to token_sizes. key_length and contexts are multiples of kKeyLengthStep, keys of kKeysStep.
StepBounds padded_bounds(const StepBounds& exact, const BoundsRule& rule);

/// The rule for an iteration whose steps have these exact bounds, cut into ubatches and as one
/// ubatch, in order of steps; equal on all ranks if they are. `sizes` are those that an experiment
/// states; nothing = automatic: no rounding where all steps of a kind have equal tokens, else 1, 2,
/// 4, 8 and then multiples of 8, or of a sixteenth of the power of two below where that is more.
BoundsRule make_bounds_rule(const std::optional<std::vector<std::int64_t>>& sizes,
                            std::span<const StepBounds> split,
                            std::span<const StepBounds> whole);

}  // namespace dovetail
