// The difference of two tensors, row by row: error max|a-b| / max|b| in double, bitwise equality,
// and the worst element by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "framework/base/types.hpp"

namespace dovetail {

/// Element `index` of raw little-endian elements as double; exact for every dtype but int64 beyond
/// 2^53.
double element_as_double(DType dtype, const std::byte* data, std::int64_t index);

/// Differences of the rows of one tensor; rows are added one pair at a time, so that they may come
/// from any rank and in any order. `a` is the tensor under test, `b` the baseline.
class TensorDiff {
 public:
  /// Where a row stands, in the caller's numbering (verify: index of a matched token or request).
  struct Element {
    std::int64_t row = -1;
    std::int64_t column = -1;
    double a = 0;
    double b = 0;
  };

  explicit TensorDiff(DType dtype) : dtype_(dtype) {}

  /// Compares one row; both spans hold the same whole number of elements (ContractError). An
  /// excluded row is searched for NaN and Inf only.
  void add_row(std::int64_t row,
               std::span<const std::byte> a,
               std::span<const std::byte> b,
               bool excluded = false);

  /// max|a-b| / max|b| over the rows that were compared; 0 where both are 0 and infinite where only
  /// max|b| is. Non-finite elements do not enter: see has_non_finite.
  double error() const;

  double max_abs_difference() const { return max_abs_difference_; }

  double max_abs_baseline() const { return max_abs_baseline_; }

  /// The element of the largest |a-b|, the first of equals; row -1 if all are equal.
  const Element& worst() const { return worst_; }

  /// True if any element of either side is NaN or Inf, also in an excluded row and also if both
  /// sides have it: such an output is broken whatever it is compared with.
  bool has_non_finite() const { return non_finite_.row >= 0; }

  /// The first such element.
  const Element& non_finite() const { return non_finite_; }

  /// Elements whose bits differ (+0 and -0 differ), and the first of them.
  std::int64_t num_different_bits() const { return num_different_bits_; }

  const Element& first_different_bits() const { return first_different_bits_; }

  std::int64_t num_rows() const { return num_rows_; }

  std::int64_t num_excluded_rows() const { return num_excluded_rows_; }

 private:
  DType dtype_;
  double max_abs_difference_ = 0;
  double max_abs_baseline_ = 0;
  Element worst_;
  Element non_finite_;
  Element first_different_bits_;
  std::int64_t num_different_bits_ = 0;
  std::int64_t num_rows_ = 0;
  std::int64_t num_excluded_rows_ = 0;
};

}  // namespace dovetail
