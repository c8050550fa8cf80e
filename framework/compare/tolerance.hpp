// How far two results may differ and still count as the same: one rule for each dtype and kind of
// comparison, each with the reason for its numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "framework/base/types.hpp"

namespace dovetail {

/// bitwise: every element of every output, every expert id and logit is equal to the bit.
/// tolerance: tolerance_rule.
enum class CompareMode { bitwise, tolerance };

template <>
struct EnumNames<CompareMode> {
  static constexpr std::array<std::string_view, 2> kTable = {"bitwise", "tolerance"};
};

/// Whether baseline and policy ran on the same rank grid (ubatched against whole) or not (N ranks
/// against 1): on another grid partial sums over experts are cut and rounded elsewhere.
enum class GridRelation { same, different };

/// What a row of a tensor may differ by; reached is still allowed. See TensorDiff for the errors.
struct RowBounds {
  double row = 0;      ///< of ||a-b|| / ||b||
  double element = 0;  ///< of |a-b| / max(|b|, rms of b's row)
};

/// Whether both runs sum in kernels of one device, or a GPU's against a CPU's.
enum class DeviceRelation { same, different };

struct ToleranceRule {
  RowBounds bounds;               ///< of the last layer's rows
  double max_excluded_share = 0;  ///< of tokens that routing excludes from the final output
  std::string reason;             ///< why these numbers
};

/// Unit roundoff: half the distance from 1 to the next number. Throws ContractError for integers.
double unit_roundoff(DType dtype);

/// Roundings of a layer, but for what experts amplify.
inline constexpr double kRoundingsPerLayer = 6;
/// See roundings_behind.
inline constexpr double kGrowthInExperts = 2;

/// The part of a row that is there because experts' weights add up to more than 1, in squares of
/// norms: share (1 - 1 / s^2) where s > 1, else 0. `weight_sum`: s, the sum of the row's experts'
/// weights in a layer, shared experts counted as 1. `stream_share`:
/// ||what experts add||^2 / ||row behind the layer||^2.
double expert_excess(double weight_sum, double stream_share);

/// Roundings that a row has behind it after a layer: n of the layers before and e = expert_excess
/// make n (1 + 2 e) + 6 (1 + e).
/// - A layer rounds the residual stream twice. The roundings within attention and experts (norms,
///   projections, SwiGLU, partial sums of experts and ranks) count as much as four more.
/// - Where a row is all experts (e = 1), these round eight times within, not two: their input,
///   which counts twice as SwiGLU multiplies two products of it, both products, the product of
///   them, its projection, the partial sums of ranks and their sum.
/// - Of the square of its input's error SwiGLU makes 2.04 to 2.07 (of normal rows, whatever the
///   scale of its gate), and the experts' weights are off by as much as their logits: 3, so 2 more
///   than the 1 that the residual stream keeps. What comes of weights up to 1 is part of m below.
double roundings_behind(double before, double excess);

/// Bounds of a row behind `depth` layers whose sums have at most `reduction_length` terms:
///
///   row = m sqrt(2) 0.4246 u sqrt(n'),  n' = n (1 + reduction_length / c (u' / u)^2) + 2
///
/// with the unit roundoffs u of the dtype and u' of sums (float32's; float64's for float64), and
/// the roundings n behind the last of the layers: what `layer_roundings` says of it, by layer, and
/// at least 6 depth, which is what they are where experts' weights add up to 1 at most.
/// - A rounding is off by up to half of the last place, evenly. With significands m spread as 1/m,
///   its relative mean square is (0.4246 u)^2.
/// - Both runs round, each in its own way where kernels take rows together otherwise: sqrt(2).
/// - Each of the six products of a layer adds half a rounding of its sum for each term of a chain.
///   On one device the runs sum alike but for how rows are taken together: 16 chains, so c is 32.
///   Kernels of different devices sum in orders that have nothing in common: one chain, c is 2.
/// - Two more for the final norm and the logits. All of them add like a random walk: sqrt(n).
/// - m: 1.885 for bfloat16, 2.4 for float16, 2.3 for others, so that the worst right run of the
///   measurement in results/README.md uses two thirds of the bound. A smaller one would refuse
///   right runs of models that were not measured, a larger one pass faults that are more than
///   rounding.
/// element = 5 row: the largest of the many elements of a row, five standard deviations.
RowBounds row_bounds(DType dtype,
                     std::int64_t depth,
                     std::int64_t reduction_length,
                     DeviceRelation devices,
                     std::span<const double> layer_roundings = {});

/// Of a row of router logits behind those layers. An error of a row of n elements is spread by
/// 1 / sqrt(2 n) about its rms, which matters where there are few experts; four such deviations
/// more.
RowBounds logits_bounds(const RowBounds& bounds, std::int64_t num_experts);

/// How far the logits of two experts may be apart, in units of their size (the largest of them, or
/// the rms of the row), where one run chooses the one and another run the other: each logit may
/// move by bounds.element, and the two move independently. near_tie.hpp says what sizes are of
/// other numbers that decide.
double choice_bound(const RowBounds& bounds);

/// Integers must be equal (all bounds 0). Floats: row_bounds, and at most 10 % of the tokens
/// excluded: a verdict rests on the others.
ToleranceRule tolerance_rule(DType dtype,
                             std::int64_t num_layers,
                             std::int64_t reduction_length,
                             DeviceRelation devices,
                             std::span<const double> layer_roundings = {});

}  // namespace dovetail
