// The difference of two tensors, row by row, in double: each row has its own error, so that a fault
// in one row is as visible as one in all; bitwise equality; the worst row and element by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "framework/base/types.hpp"

namespace dovetail {

/// Raw little-endian elements as double, into `values`, which is resized; exact for every dtype but
/// int64 beyond 2^53.
void decode_row(DType dtype, std::span<const std::byte> data, std::vector<double>& values);

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

  /// The largest ||a-b|| / ||b|| of a compared row (Euclidean norms); 0 where both are 0 and
  /// infinite where only ||b|| is. Non-finite elements do not enter: see has_non_finite.
  double row_error() const { return row_error_; }

  /// The largest |a-b| / max(|b|, rms of b's row) of an element of a compared row: a single wrong
  /// element is small beside a long row, but not beside its neighbours. Infinite as above.
  double element_error() const { return element_error_; }

  /// The row of row_error(), the first of equals, and its element of the largest |a-b|; row -1 if
  /// all are equal.
  const Element& worst_row() const { return worst_row_; }

  /// The element of element_error(), the first of equals; row -1 if all are equal.
  const Element& worst_element() const { return worst_element_; }

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
  /// Of the row that a_ and b_ hold.
  Element element(std::int64_t row, std::size_t column) const;

  /// Remembers the first non-finite element of that row and makes all of them zero.
  void leave_out_non_finite(std::int64_t row);

  /// Enters that row into the errors.
  void add_errors(std::int64_t row);

  DType dtype_;
  std::vector<double> a_;
  std::vector<double> b_;
  double row_error_ = 0;
  double element_error_ = 0;
  Element worst_row_;
  Element worst_element_;
  Element non_finite_;
  Element first_different_bits_;
  std::int64_t num_different_bits_ = 0;
  std::int64_t num_rows_ = 0;
  std::int64_t num_excluded_rows_ = 0;
};

}  // namespace dovetail
