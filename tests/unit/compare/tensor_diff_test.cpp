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

template <class T>
std::vector<double> decoded(DType dtype, const std::vector<T>& raw) {
  std::vector<double> values;
  decode_row(dtype, bytes(raw), values);
  return values;
}

TEST(TensorDiff, EachRowHasItsOwnError) {
  TensorDiff diff(DType::float32);
  diff.add_row(7, bytes<float>({1, 2, 3}), bytes<float>({1, 2, 3}));
  diff.add_row(8, bytes<float>({3e6F, 4e6F, 100}), bytes<float>({3e6F, 4e6F, 0}));
  diff.add_row(9, bytes<float>({3, 5, 0.5F}), bytes<float>({3, 4, 0}));
  EXPECT_DOUBLE_EQ(diff.row_error(), std::sqrt(1.25) / 5)
      << "beside a row of a million times its size";
  EXPECT_EQ(diff.worst_row().row, 9);
  EXPECT_EQ(diff.worst_row().column, 1);
  EXPECT_EQ(diff.worst_row().a, 5);
  EXPECT_EQ(diff.worst_row().b, 4);
  EXPECT_EQ(diff.num_different_bits(), 3);
  EXPECT_EQ(diff.first_different_bits().row, 8);
  EXPECT_EQ(diff.num_rows(), 3);
}

TEST(TensorDiff, AnElementIsMeasuredByItselfOrByItsRow) {
  // The rms of {2, 2, 2, 2} is 2; element 1 is larger than the rms of the second row.
  EXPECT_DOUBLE_EQ(diff_of({2, 2, 3, 2}, {2, 2, 2, 2}).element_error(), 0.5);
  EXPECT_DOUBLE_EQ(diff_of({0, 9, 0, 0}, {0, 10, 0, 0}).element_error(), 0.1);
  EXPECT_DOUBLE_EQ(diff_of({1, 10, 0, 0}, {0, 10, 0, 0}).element_error(), 0.2) << "rms 5";
  // One element of a long row: little for the row, all for the element.
  std::vector<float> b(10'000, 1);
  std::vector<float> a = b;
  a[77] = -1;
  const TensorDiff diff = diff_of(a, b);
  EXPECT_DOUBLE_EQ(diff.row_error(), 0.02);
  EXPECT_DOUBLE_EQ(diff.element_error(), 2);
  EXPECT_EQ(diff.worst_element().column, 77);
}

TEST(TensorDiff, ScaleIsTheBaselines) {
  EXPECT_DOUBLE_EQ(diff_of({100}, {1}).row_error(), 99);
  EXPECT_DOUBLE_EQ(diff_of({1}, {100}).row_error(), 0.99);
  EXPECT_EQ(diff_of({0, 0}, {0, 0}).row_error(), 0);
  EXPECT_TRUE(std::isinf(diff_of({0, 1e-30F}, {0, 0}).row_error()));
  EXPECT_TRUE(std::isinf(diff_of({0, 1e-30F}, {0, 0}).element_error()));
}

TEST(TensorDiff, NumbersWhoseSquaresOverflowAreNoSmallError) {
  TensorDiff diff(DType::float64);
  diff.add_row(0, bytes<double>({1e200, 1}), bytes<double>({-1e200, 1}));
  EXPECT_TRUE(std::isinf(diff.row_error()));
}

TEST(TensorDiff, SignedZerosDifferInBitsOnly) {
  const TensorDiff diff = diff_of({0.0F}, {-0.0F});
  EXPECT_EQ(diff.row_error(), 0);
  EXPECT_EQ(diff.worst_row().row, -1);
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
  EXPECT_EQ(diff.row_error(), 0) << "excluded rows do not count";
  EXPECT_EQ(diff.element_error(), 0);
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

TEST(DecodeRow, KnowsEveryFloat16) {
  // The encoding decides the value: sign, exponent and fraction counted out by hand.
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const std::vector<std::uint16_t> raw = {static_cast<std::uint16_t>(bits)};
    const double value = decoded(DType::float16, raw).at(0);
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

TEST(DecodeRow, KnowsTheOtherTypes) {
  const std::vector<std::uint16_t> bf16 = {0x3F80, 0xC049, 0x0001};
  EXPECT_EQ(decoded(DType::bfloat16, bf16).at(0), 1);
  EXPECT_EQ(decoded(DType::bfloat16, bf16).at(1), -3.140625);
  EXPECT_EQ(decoded(DType::bfloat16, bf16).at(2), std::ldexp(1, -133));
  const std::vector<double> f64 = {0, 0.1};
  EXPECT_EQ(decoded(DType::float64, f64).at(1), 0.1);
  const std::vector<std::int64_t> i64 = {-5};
  EXPECT_EQ(decoded(DType::int64, i64).at(0), -5);
  const std::vector<std::int32_t> i32 = {1, -7};
  EXPECT_EQ(decoded(DType::int32, i32).at(1), -7);
  const std::vector<std::uint8_t> u8 = {255};
  EXPECT_EQ(decoded(DType::uint8, u8).at(0), 255);
}

TEST(TensorDiff, AgreesWithAPlainLoopOnRandomData) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 50; ++round) {
    TensorDiff diff(DType::float32);
    long double row_error = 0;
    long double element_error = 0;
    for (std::int64_t row = 0; row < 6; ++row) {
      std::vector<float> a(10);
      std::vector<float> b(10);
      long double differences = 0;
      long double baseline = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = normal(random);
        b[i] = random() % 4 == 0 ? a[i] : normal(random);
        differences +=
            std::pow(static_cast<long double>(a[i]) - static_cast<long double>(b[i]), 2.0L);
        baseline += std::pow(static_cast<long double>(b[i]), 2.0L);
      }
      row_error = std::max(row_error, std::sqrt(differences / baseline));
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto x = static_cast<long double>(a[i]);
        const auto y = static_cast<long double>(b[i]);
        element_error = std::max(element_error,
                                 std::abs(x - y) / std::max(std::abs(y), std::sqrt(baseline / 10)));
      }
      diff.add_row(row, bytes(a), bytes(b));
    }
    EXPECT_NEAR(diff.row_error(), static_cast<double>(row_error), 1e-12);
    EXPECT_NEAR(diff.element_error(), static_cast<double>(element_error), 1e-12);
  }
}

}  // namespace
}  // namespace dovetail
