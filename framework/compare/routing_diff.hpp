// How tokens were routed in two runs, judged by the router's logits of both.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "framework/compare/tolerance.hpp"
#include "framework/plan/expert_groups.hpp"

namespace dovetail {

/// The tokens that two runs have in common, rows already matched: of the steps, and of the contexts
/// that filled the cache before them.
struct RoutedRows {
  std::vector<std::int64_t> request;   ///< [rows]
  std::vector<std::int64_t> position;  ///< [rows], within the request
  std::vector<char> is_given;  ///< [rows]: one run was given the experts of the other, or both
  std::int64_t top_k = 0;
  std::int64_t num_experts = 0;
  ExpertGroups groups;
};

/// One layer of one run; row-major, rows as in RoutedRows.
struct LayerRouting {
  std::vector<std::int32_t>
      expert_ids;  ///< [rows, k]: whose output the token got; -1 = dense layer
  std::vector<std::int32_t> natural_ids;  ///< [rows, k]: the router's own choice
  std::vector<float> logits;              ///< [rows, experts]
  /// [rows, experts]: sigmoids of the logits, each with its expert's bias, where routers choose by
  /// these; empty where they choose by the logits.
  std::vector<float> scores;
};

/// A row is never excluded.
inline constexpr std::int64_t kNeverExcluded = std::numeric_limits<std::int64_t>::max();

struct RoutingDiff {
  struct Mismatch {
    std::int64_t layer = 0;
    std::int64_t row = 0;
    std::string what;  ///< e.g. "experts 1 5 were given, 1 7 used"
  };

  std::int64_t num_judged = 0;      ///< token-layers that were compared
  std::int64_t num_mismatches = 0;  ///< of these: wrong
  std::int64_t num_different = 0;  ///< of these: the two routers chose other experts, as a near tie
                                   ///< allows
  std::int64_t num_reordered = 0;  ///< of these: the same experts in another order
  double max_gap = 0;  ///< the largest difference of two logits (or scores) that was overcome in
                       ///< such ties
  double max_gap_share = 0;  ///< the same in units of what the bound allows
  double logits_share = 0;   ///< the largest error of the logits in units of its bound
  std::optional<Mismatch> first_mismatch;
  /// Per row: the first layer whose output is not compared, or kNeverExcluded.
  std::vector<std::int64_t> excluded_from;
};

/// Compares layer by layer, all rows that are not excluded there. Of each row
/// - experts that are given must be used, in the order in which they are given;
/// - the router's choice must be the k best of its own logits, or scores where there are such, in
///   its best groups, ties by lower id, in both runs; where nothing is given it must be what is
///   used;
/// - the logits of both runs must agree within logits_bounds, measured by the norm of the row, or
///   that which rows of the layer usually have;
/// - scores must follow from their logits in both runs in the same way;
/// - what only one router chose must be a near tie with what only the other chose (near_tie.hpp).
/// Anything else is a mismatch, NaN as well.
/// Where nothing is given and the routers chose differently, trajectories part: from this layer on
/// the row means something else on each side and is excluded, and from the next layer on so are the
/// later rows of its request, which attend to it. Earlier rows and other requests never see it.
///
/// `exact` (bitwise): any difference of ids, order or bits of logits is a mismatch.
class RoutingComparison {
 public:
  RoutingComparison(RoutedRows rows, bool exact);

  /// The next layer; `bounds` are those of its rows. Sizes are checked (ContractError).
  void add_layer(const RowBounds& bounds, const LayerRouting& policy, const LayerRouting& baseline);

  const RoutingDiff& result() const { return result_; }

 private:
  enum class Judgement { equal, different, mismatch };

  Judgement judge(std::size_t row,
                  const RowBounds& bounds,
                  const LayerRouting& policy,
                  const LayerRouting& baseline);
  void judge_logits(const RowBounds& bounds,
                    const LayerRouting& policy,
                    const LayerRouting& baseline);
  void exclude(const std::vector<std::size_t>& rows);
  void add_mismatch(std::size_t row, const std::string& what);

  RoutedRows rows_;
  bool exact_;
  std::int64_t layer_ = 0;
  RoutingDiff result_;
};

}  // namespace dovetail
