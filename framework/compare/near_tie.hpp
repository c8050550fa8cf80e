// How far two routers' choices for one token are from being the same, where experts may be chosen
// by groups, and by scores that are sigmoids of logits with a bias.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "framework/compare/tolerance.hpp"
#include "framework/plan/expert_groups.hpp"

namespace dovetail::detail {

/// What a router had of one token.
struct RouterRow {
  std::span<const float> logits;  ///< [experts]
  std::span<const float> scores;  ///< [experts], or empty: the logits decide

  std::span<const float> deciding() const { return scores.empty() ? logits : scores; }

  std::string deciding_name() const { return scores.empty() ? "logits" : "scores"; }
};

/// Whether the scores of two runs follow from their logits in the same way: each pair differs as
/// the sigmoids of its logits do, since the bias is the same. True without scores.
bool are_consistent(const RouterRow& policy, const RouterRow& baseline);

struct RouterChoice {
  std::span<const std::int32_t> ids;  ///< the best, of its best groups
  RouterRow row;
};

struct Gap {
  double difference = 0;  ///< the largest that one router would have to overcome
  double share = 0;       ///< in units of what rounding explains; the largest of its kind
  std::string what;       ///< what is apart: logits or scores, of experts or groups
};

/// Judges what must be a near tie. Where the routers chose the same groups, each expert that only
/// one of them chose with each that only the other chose, by the numbers of both. Where they did
/// not, each group that only one of them chose with each that only the other chose; the experts of
/// such groups came and went with their group, so they need not be near to any other.
///
/// What rounding explains: each logit may move by bounds.element of its size (itself, or the rms of
/// the row), a score by as much as its sigmoid then does, and by its own rounding in float32; two
/// of them move independently: sqrt(2) times the larger. A group's score moves as its best expert's
/// does, or as two independent ones do. The bounds are of the activations' dtype also where logits
/// are computed in float32, since the rows that they come of were rounded to it.
Gap gap_between(const RouterChoice& policy,
                const RouterChoice& baseline,
                const ExpertGroups& groups,
                const RowBounds& bounds);

}  // namespace dovetail::detail
