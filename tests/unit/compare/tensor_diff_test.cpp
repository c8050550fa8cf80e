#include "framework/compare/tensor_diff.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

template <class T>
std::span<const std::byte> bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TensorDiff diff_of(const std::vector<float>& a, const std::vector<float>& b) {
  TensorDiff diff(DType::float32);
  diff.add_row(0, bytes(a), bytes(b));
  return diff;
}

TEST(TensorDiff, ErrorIsLargestDifferenceOverLargestBaseline) {
  TensorDiff diff(DType::float32);
  diff.add_row(7, bytes<float>({1, 2, 3}), bytes<float>({1, 2, 3}));
  diff.add_row(9, bytes<float>({-8, 5, 0}), bytes<float>({-8, 5.5, 0.25}));
  EXPECT_DOUBLE_EQ(diff.error(), 0.5 / 8);
  EXPECT_EQ(diff.worst().row, 9);
  EXPECT_EQ(diff.worst().column, 1);
  EXPECT_EQ(diff.worst().a, 5);
  EXPECT_EQ(diff.worst().b, 5.5);
  EXPECT_EQ(diff.num_different_bits(), 2);
  EXPECT_EQ(diff.first_different_bits().column, 1);
  EXPECT_EQ(diff.num_rows(), 2);
}

TEST(TensorDiff, ScaleIsTheBaselines) {
  EXPECT_DOUBLE_EQ(diff_of({100}, {1}).error(), 99);
  EXPECT_DOUBLE_EQ(diff_of({1}, {100}).error(), 0.99);
  EXPECT_EQ(diff_of({0, 0}, {0, 0}).error(), 0);
  EXPECT_TRUE(std::isinf(diff_of({0, 1e-30F}, {0, 0}).error()));
}

TEST(TensorDiff, SignedZerosDifferInBitsOnly) {
  const TensorDiff diff = diff_of({0.0F}, {-0.0F});
  EXPECT_EQ(diff.error(), 0);
  EXPECT_EQ(diff.num_different_bits(), 1);
}

TEST(TensorDiff, NonFiniteIsNamedWhicheverSideAndAlsoWhereExcluded) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(diff_of({nan}, {1}).has_non_finite());
  EXPECT_TRUE(diff_of({1}, {inf}).has_non_finite());
  EXPECT_TRUE(diff_of({nan}, {nan}).has_non_finite()) << "equal, but broken";
  EXPECT_FALSE(diff_of({1}, {2}).has_non_finite());
  TensorDiff diff(DType::float32);
  diff.add_row(3, bytes<float>({1, 5}), bytes<float>({1, 6}), true);
  EXPECT_FALSE(diff.has_non_finite());
  EXPECT_EQ(diff.error(), 0) << "excluded rows do not count";
  diff.add_row(4, bytes<float>({1, nan}), bytes<float>({1, 1}), true);
  ASSERT_TRUE(diff.has_non_finite());
  EXPECT_EQ(diff.non_finite().row, 4);
  EXPECT_EQ(diff.non_finite().column, 1);
  EXPECT_EQ(diff.num_excluded_rows(), 2);
}

TEST(TensorDiff, RowsOfOtherLengthAreRefused) {
  TensorDiff diff(DType::float32);
  EXPECT_THROW(diff.add_row(0, bytes<float>({1}), bytes<float>({1, 2})), ContractError);
  EXPECT_THROW(diff.add_row(0, bytes<std::uint8_t>({1}), bytes<std::uint8_t>({1})), ContractError);
}

TEST(ElementAsDouble, KnowsEveryFloat16) {
  // The encoding decides the value: sign, exponent and fraction counted out by hand.
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const std::vector<std::uint16_t> raw = {static_cast<std::uint16_t>(bits)};
    const double value = element_as_double(DType::float16, bytes(raw).data(), 0);
    const unsigned exponent = (bits >> 10U) & 31U;
    const unsigned fraction = bits & 1023U;
    const double sign = (bits >> 15U) != 0 ? -1 : 1;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), fraction != 0);
      EXPECT_FALSE(std::isfinite(value));
    } else if (exponent == 0) {
      EXPECT_EQ(value, sign * fraction / 1024.0 * std::pow(2, -14));
    } else {
      EXPECT_EQ(value,
                sign * (1 + fraction / 1024.0) * std::pow(2, static_cast<int>(exponent) - 15));
    }
  }
}

TEST(ElementAsDouble, KnowsTheOtherTypes) {
  const std::vector<std::uint16_t> bf16 = {0x3F80, 0xC049, 0x0001};
  EXPECT_EQ(element_as_double(DType::bfloat16, bytes(bf16).data(), 0), 1);
  EXPECT_EQ(element_as_double(DType::bfloat16, bytes(bf16).data(), 1), -3.140625);
  EXPECT_EQ(element_as_double(DType::bfloat16, bytes(bf16).data(), 2), std::ldexp(1, -133));
  const std::vector<double> f64 = {0, 0.1};
  EXPECT_EQ(element_as_double(DType::float64, bytes(f64).data(), 1), 0.1);
  const std::vector<std::int64_t> i64 = {-5};
  EXPECT_EQ(element_as_double(DType::int64, bytes(i64).data(), 0), -5);
  const std::vector<std::int32_t> i32 = {1, -7};
  EXPECT_EQ(element_as_double(DType::int32, bytes(i32).data(), 1), -7);
  const std::vector<std::uint8_t> u8 = {255};
  EXPECT_EQ(element_as_double(DType::uint8, bytes(u8).data(), 0), 255);
}

TEST(TensorDiff, AgreesWithAPlainLoopOnRandomData) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 50; ++round) {
    std::vector<float> a(60);
    std::vector<float> b(60);
    double largest = 0;
    double scale = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] = normal(random);
      b[i] = random() % 4 == 0 ? a[i] : normal(random);
      largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
      scale = std::max(scale, std::abs(static_cast<double>(b[i])));
    }
    TensorDiff diff(DType::float32);
    for (std::size_t row = 0; row < 6; ++row) {
      diff.add_row(static_cast<std::int64_t>(row),
                   bytes(a).subspan(row * 40, 40),
                   bytes(b).subspan(row * 40, 40));
    }
    EXPECT_EQ(diff.error(), largest / scale);
    const auto place = static_cast<std::size_t>(diff.worst().row * 10 + diff.worst().column);
    EXPECT_EQ(std::abs(static_cast<double>(a[place]) - static_cast<double>(b[place])), largest);
  }
}

}  // namespace
}  // namespace dovetail
