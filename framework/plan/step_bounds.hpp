// The sizes that all ranks agree on before a step. Padded inputs, messages of fixed size and
// captured graphs are made for them, so that they are the same on every rank.
#pragma once

#include <array>
#include <cstdint>

#include "framework/plan/policy.hpp"

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

/// Multiples to which padded_bounds rounds up.
inline constexpr std::int64_t kKeyLengthStep = 256;
inline constexpr std::int64_t kKeysStep = 1024;

/// The bounds that a step is padded to, of exact ones: key_length and each context rounded up to a
/// multiple of kKeyLengthStep, keys of kKeysStep, so that decode steps, whose contexts grow by a
/// token a step, share a graph; 0 stays 0. Tokens, segments and query_length stay: rows of padding
/// cost time in every layer, bounds of keys cost none.
StepBounds padded_bounds(const StepBounds& exact);

}  // namespace dovetail
