#include "framework/compare/tensor_diff.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "framework/base/check.hpp"
#include "framework/record/half.hpp"

namespace dovetail {
namespace {

static_assert(std::endian::native == std::endian::little, "result files are little-endian");

template <class T>
T load(const std::byte* data, std::int64_t index) {
  T value;
  std::memcpy(&value, data + static_cast<std::size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

double element_as_double(DType dtype, const std::byte* data, std::int64_t index) {
  switch (dtype) {
    case DType::float32:
      return static_cast<double>(load<float>(data, index));
    case DType::float16:
      return static_cast<double>(float16_to_float(load<std::uint16_t>(data, index)));
    case DType::bfloat16:
      return static_cast<double>(bfloat16_to_float(load<std::uint16_t>(data, index)));
    case DType::float64:
      return load<double>(data, index);
    case DType::int32:
      return static_cast<double>(load<std::int32_t>(data, index));
    case DType::int64:
      return static_cast<double>(load<std::int64_t>(data, index));
    case DType::uint8:
      return static_cast<double>(load<std::uint8_t>(data, index));
  }
  DOVETAIL_CHECK(false, "dtype out of range");
  return 0;
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
  const auto columns = static_cast<std::int64_t>(a.size() / size);
  for (std::int64_t column = 0; column < columns; ++column) {
    const double x = element_as_double(dtype_, a.data(), column);
    const double y = element_as_double(dtype_, b.data(), column);
    if ((!std::isfinite(x) || !std::isfinite(y)) && !has_non_finite()) {
      non_finite_ = {row, column, x, y};
    }
    if (excluded) {
      continue;
    }
    const std::size_t offset = static_cast<std::size_t>(column) * size;
    if (std::memcmp(a.data() + offset, b.data() + offset, size) != 0) {
      if (num_different_bits_++ == 0) {
        first_different_bits_ = {row, column, x, y};
      }
    }
    if (!std::isfinite(x) || !std::isfinite(y)) {
      continue;
    }
    max_abs_baseline_ = std::max(max_abs_baseline_, std::abs(y));
    if (const double difference = std::abs(x - y); difference > max_abs_difference_) {
      max_abs_difference_ = difference;
      worst_ = {row, column, x, y};
    }
  }
}

double TensorDiff::error() const {
  if (max_abs_difference_ == 0) {
    return 0;
  }
  return max_abs_baseline_ == 0 ? std::numeric_limits<double>::infinity()
                                : max_abs_difference_ / max_abs_baseline_;
}

}  // namespace dovetail
