#include "framework/compare/tensor_diff.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "framework/base/check.hpp"
#include "framework/record/half.hpp"

namespace dovetail {
namespace {

static_assert(std::endian::native == std::endian::little, "result files are little-endian");

constexpr double kInfinite = std::numeric_limits<double>::infinity();

template <class T>
T load(const std::byte* data, std::size_t index) {
  T value;
  std::memcpy(&value, data + index * sizeof(T), sizeof(T));
  return value;
}

template <class T, class Convert>
void decode_all(std::span<const std::byte> data, std::vector<double>& values, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>(convert(load<T>(data.data(), i)));
  }
}

/// The sum of term(i) over i below `size`, in four chains, which a processor adds side by side.
template <class Term>
double sum_of(std::size_t size, Term term) {
  double sums[4] = {0, 0, 0, 0};
  std::size_t i = 0;
  for (; i + 4 <= size; i += 4) {
    sums[0] += term(i);
    sums[1] += term(i + 1);
    sums[2] += term(i + 2);
    sums[3] += term(i + 3);
  }
  for (; i < size; ++i) {
    sums[0] += term(i);
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

bool all_finite(const std::vector<double>& values) {
  return sum_of(values.size(), [&](std::size_t i) { return values[i] * 0; }) == 0;  // NaN otherwise
}

struct DifferentBits {
  std::int64_t count = 0;
  std::size_t first = 0;
};

template <class T>
DifferentBits count_different(std::span<const std::byte> a, std::span<const std::byte> b) {
  const std::size_t size = a.size() / sizeof(T);
  DifferentBits different;
  for (std::size_t i = 0; i < size; ++i) {
    different.count += load<T>(a.data(), i) != load<T>(b.data(), i) ? 1 : 0;
  }
  while (different.count > 0 &&
         load<T>(a.data(), different.first) == load<T>(b.data(), different.first)) {
    ++different.first;
  }
  return different;
}

DifferentBits different_bits(std::size_t size,
                             std::span<const std::byte> a,
                             std::span<const std::byte> b) {
  switch (size) {
    case 1:
      return count_different<std::uint8_t>(a, b);
    case 2:
      return count_different<std::uint16_t>(a, b);
    case 4:
      return count_different<std::uint32_t>(a, b);
    default:
      return count_different<std::uint64_t>(a, b);
  }
}

std::size_t farthest_column(const std::vector<double>& a, const std::vector<double>& b) {
  std::size_t farthest = 0;
  for (std::size_t i = 1; i < a.size(); ++i) {
    if (std::abs(a[i] - b[i]) > std::abs(a[farthest] - b[farthest])) {
      farthest = i;
    }
  }
  return farthest;
}

}  // namespace

void decode_row(DType dtype, std::span<const std::byte> data, std::vector<double>& values) {
  const auto as_it_is = [](auto value) { return value; };
  values.resize(data.size() / size_of(dtype));
  switch (dtype) {
    case DType::float32:
      return decode_all<float>(data, values, as_it_is);
    case DType::float16:
      return decode_all<std::uint16_t>(data, values, float16_to_float);
    case DType::bfloat16:
      return decode_all<std::uint16_t>(data, values, bfloat16_to_float);
    case DType::float64:
      return decode_all<double>(data, values, as_it_is);
    case DType::int32:
      return decode_all<std::int32_t>(data, values, as_it_is);
    case DType::int64:
      return decode_all<std::int64_t>(data, values, as_it_is);
    case DType::uint8:
      return decode_all<std::uint8_t>(data, values, as_it_is);
  }
  DOVETAIL_CHECK(false, "dtype out of range");
}

void TensorDiff::add_row(std::int64_t row,
                         std::span<const std::byte> a,
                         std::span<const std::byte> b,
                         bool excluded) {
  const std::size_t size = size_of(dtype_);
  DOVETAIL_CHECK_EQ(a.size(), b.size());
  DOVETAIL_CHECK_EQ(a.size() % size, std::size_t{0});
  num_rows_ += excluded ? 0 : 1;
  num_excluded_rows_ += excluded ? 1 : 0;
  decode_row(dtype_, a, a_);
  const bool same_bits = a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0;
  if (same_bits) {
    b_ = a_;
  } else {
    decode_row(dtype_, b, b_);
  }
  const DifferentBits different =
      excluded || same_bits ? DifferentBits{} : different_bits(size, a, b);
  if (different.count > 0 && num_different_bits_ == 0) {
    first_different_bits_ = element(row, different.first);
  }
  num_different_bits_ += different.count;
  if (!all_finite(a_) || !all_finite(b_)) {
    leave_out_non_finite(row);
  }
  if (different.count > 0) {
    add_errors(row);
  }
}

TensorDiff::Element TensorDiff::element(std::int64_t row, std::size_t column) const {
  return {row, static_cast<std::int64_t>(column), a_[column], b_[column]};
}

void TensorDiff::leave_out_non_finite(std::int64_t row) {
  for (std::size_t i = 0; i < a_.size(); ++i) {
    if (std::isfinite(a_[i]) && std::isfinite(b_[i])) {
      continue;
    }
    if (!has_non_finite()) {
      non_finite_ = element(row, i);
    }
    a_[i] = b_[i] = 0;
  }
}

void TensorDiff::add_errors(std::int64_t row) {
  const double differences =
      sum_of(a_.size(), [&](std::size_t i) { return (a_[i] - b_[i]) * (a_[i] - b_[i]); });
  const double baseline = sum_of(a_.size(), [&](std::size_t i) { return b_[i] * b_[i]; });
  if (differences == 0) {
    return;  // zeros of other signs
  }
  const bool comparable = baseline > 0 && std::isfinite(differences + baseline);
  const double error = comparable ? std::sqrt(differences / baseline) : kInfinite;
  if (error > row_error_) {
    row_error_ = error;
    worst_row_ = element(row, farthest_column(a_, b_));
  }
  const double rms = std::sqrt(baseline / static_cast<double>(a_.size()));
  for (std::size_t i = 0; i < a_.size(); ++i) {
    const double scale = std::max(std::abs(b_[i]), rms);
    const double difference = std::abs(a_[i] - b_[i]);
    if (difference > element_error_ * scale) {
      element_error_ = scale == 0 ? kInfinite : difference / scale;
      worst_element_ = element(row, i);
    }
  }
}

}  // namespace dovetail
