// Which experts each token chose, compared before any tensor: a wrong choice is a mismatch, a near
// tie that fell the other way excludes what it touches.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace dovetail {

/// Routing of the same tokens in two runs, rows already matched; all row-major.
struct RoutingPair {
  std::int64_t num_layers = 0;
  std::int64_t num_tokens = 0;
  std::int64_t top_k = 0;
  std::vector<std::int32_t> policy_experts;    ///< [layers, tokens, k]; -1 = dense layer
  std::vector<std::int32_t> baseline_experts;  ///< [layers, tokens, k]
  std::vector<float> policy_margin;            ///< [layers, tokens]: router logit k minus logit k+1
  std::vector<float> baseline_margin;          ///< [layers, tokens]
  std::vector<std::int64_t> request;           ///< [tokens]
  std::vector<std::int64_t> position;          ///< [tokens], within the request
};

/// A token is never excluded.
inline constexpr std::int64_t kNeverExcluded = std::numeric_limits<std::int64_t>::max();

struct RoutingDiff {
  /// Something that is not a near tie: where, and what both sides chose.
  struct Mismatch {
    std::int64_t layer = 0;
    std::int64_t token = 0;  ///< index into the matched rows
    std::string what;        ///< e.g. "experts 1 5 against 1 7, margin 0.31"
  };

  std::int64_t num_judged = 0;      ///< token-layers that were compared
  std::int64_t num_mismatches = 0;  ///< of these: wrong experts
  std::int64_t num_flips = 0;       ///< of these: near ties that fell the other way
  std::int64_t num_reordered = 0;   ///< of these: the same experts in another order
  std::optional<Mismatch> first_mismatch;

  /// Per token: the first layer whose output is not compared, or kNeverExcluded.
  std::vector<std::int64_t> excluded_from;

  /// Tokens whose output of the last layer is excluded, as a share of all; 0 without tokens.
  double excluded_share(std::int64_t num_layers) const;
};

/// Compares layer by layer. A token-layer whose experts differ as a set is
/// - a flip, where the margin of either run is below `max_margin`: the two logits were so close
///   that rounding decides. From this layer on the token's own row means something else on each
///   side and is excluded. From the *next* layer on so are the later tokens of its request, which
///   attend to it: a flip moves a row by tens of percent, and attention passes on a fraction of it
///   that is far above rounding (1/position with flat weights). Earlier tokens and other requests
///   never see the row (attention is causal; experts treat rows one by one), so they stay.
/// - otherwise a mismatch, also where a margin is NaN or one side has expert -1 and the other not.
/// What is excluded at a layer is not judged there. The same set in another order is counted only:
/// the same experts work for the token; their order moves the output by rounding at most.
///
/// `exact` (bitwise): any difference of ids, order or margin bits is a mismatch; nothing is
/// excluded. Sizes are checked (ContractError).
RoutingDiff diff_routing(const RoutingPair& pair, double max_margin, bool exact);

}  // namespace dovetail
