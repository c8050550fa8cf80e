// How far two results may differ and still count as the same: one rule for each dtype and kind of
// comparison, each with the reason for its numbers.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "framework/base/types.hpp"

namespace dovetail {

/// bitwise: every element of every output, every expert id and margin is equal to the bit.
/// tolerance: tolerance_rule.
enum class CompareMode { bitwise, tolerance };

template <>
struct EnumNames<CompareMode> {
  static constexpr std::array<std::string_view, 2> kTable = {"bitwise", "tolerance"};
};

/// Whether baseline and policy ran on the same rank grid (ubatched against whole) or not (N ranks
/// against 1): on another grid partial sums over experts are cut and rounded elsewhere.
enum class GridRelation { same, different };

struct ToleranceRule {
  double max_error = 0;       ///< bound of max|a-b| / max|b| of a tensor; reached is still allowed
  double max_margin = 0;      ///< a top-k choice may differ where the gap of the k-th and (k+1)-th
                              ///< router logit is below this
  double max_flip_share = 0;  ///< bound of such choices, as a share of judged token-layers
                              ///< (rounded up, so that one is always allowed)
  double max_excluded_share = 0;  ///< bound of tokens excluded from the final output, as a share
  std::string reason;             ///< why these numbers
};

/// Unit roundoff: half the distance from 1 to the next number. Throws ContractError for integers.
double unit_roundoff(DType dtype);

/// Integers must be equal (all bounds 0).
///
/// float32: 2e-6, fixed, for both grid relations. Other floats: 4 u sqrt(n), where u is the unit
/// roundoff and n the number of roundings of the residual stream to the activation dtype: 2 a layer
/// (after attention, after the experts), 3 on another grid (the partial sums of the ranks are
/// rounded as well). Independent roundings add like a random walk, hence the root; 4 standard
/// deviations because the worst of many elements is taken. (At 48 layers the formula gives 2.3e-6
/// for float32: the fixed number is the same rule for a deep model.)
ToleranceRule tolerance_rule(DType dtype, GridRelation grid, int num_layers);

}  // namespace dovetail
