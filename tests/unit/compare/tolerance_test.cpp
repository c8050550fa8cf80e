#include "framework/compare/tolerance.hpp"

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

constexpr auto kOneDevice = DeviceRelation::same;

TEST(Tolerance, EveryRuleHasAReasonAndUsableBounds) {
  for (const std::string_view name : names<DType>()) {
    const DType dtype = *parse<DType>(name);
    const ToleranceRule rule = tolerance_rule(dtype, 4, 1024, kOneDevice);
    EXPECT_FALSE(rule.reason.empty()) << name;
    EXPECT_LT(rule.bounds.row, 0.05) << name;
    EXPECT_EQ(rule.bounds.element, 5 * rule.bounds.row) << name;
    EXPECT_EQ(rule.max_excluded_share, is_float(dtype) ? 0.1 : 0) << name;
    EXPECT_DOUBLE_EQ(choice_bound(rule.bounds), std::sqrt(2.0) * rule.bounds.element) << name;
  }
  EXPECT_EQ(tolerance_rule(DType::int64, 4, 1024, kOneDevice).bounds.row, 0);
}

TEST(Tolerance, BoundsAreThoseOfTheFormula) {
  const double c = 2.3 * std::sqrt(2.0) * 0.4246;
  const double of_bfloat16 = 1.885 * std::sqrt(2.0) * 0.4246 * std::ldexp(1, -8);
  EXPECT_NEAR(row_bounds(DType::bfloat16, 24, 0, kOneDevice).row,
              of_bfloat16 * std::sqrt(6 * 24 + 2),
              1e-6);
  EXPECT_NEAR(row_bounds(DType::float16, 24, 0, kOneDevice).row,
              2.4 / 2.3 * c * std::ldexp(1, -11) * std::sqrt(6 * 24 + 2),
              1e-6);
  EXPECT_NEAR(row_bounds(DType::bfloat16, 24, 2048, kOneDevice).row /
                  row_bounds(DType::bfloat16, 24, 0, kOneDevice).row,
              1,
              1e-6)
      << "sums in float32 add nothing to roundings to bfloat16";
  EXPECT_NEAR(row_bounds(DType::float32, 24, 2048, kOneDevice).row,
              c * std::ldexp(1, -24) * std::sqrt(6 * 24 * 65 + 2),
              1e-11);
  EXPECT_NEAR(row_bounds(DType::float64, 1, 32, kOneDevice).row,
              c * std::ldexp(1, -53) * std::sqrt(14),
              1e-19);
}

TEST(Tolerance, DevicesSumInOrdersThatHaveNothingInCommon) {
  const double c = 2.3 * std::sqrt(2.0) * 0.4246;
  EXPECT_NEAR(row_bounds(DType::float32, 4, 2048, DeviceRelation::different).row,
              c * std::ldexp(1, -24) * std::sqrt(6 * 4 * 1025 + 2),
              1e-11);
}

TEST(Tolerance, ExpertsAmplifyWhatTheirWeightsAddToARow) {
  EXPECT_EQ(expert_excess(1, 0.9), 0);
  EXPECT_EQ(expert_excess(0.3, 0.9), 0);
  EXPECT_NEAR(expert_excess(2, 0.8), 0.6, 1e-12);
  EXPECT_EQ(roundings_behind(0, 0), 6);
  EXPECT_EQ(roundings_behind(12, 0), 18);
  EXPECT_NEAR(roundings_behind(12, 0.6), 12 * 2.2 + 9.6, 1e-12);
  const double unit = 1.885 * std::sqrt(2.0) * 0.4246 * std::ldexp(1, -8);
  const std::vector<double> roundings = {6, 30, 70};
  for (const auto& [depth, behind] : std::vector<std::pair<std::int64_t, double>>{
           {1, 6}, {2, 30}, {3, 70}, {4, 24}}) {  // 6 of each where there is no more in the list
    const double row = row_bounds(DType::bfloat16, depth, 0, kOneDevice, roundings).row;
    EXPECT_NEAR(row * row / unit / unit, behind + 2, 1e-4 * behind) << depth;
  }
  const std::vector<double> too_few = {1, 2};
  EXPECT_EQ(row_bounds(DType::bfloat16, 2, 0, kOneDevice, too_few).row,
            row_bounds(DType::bfloat16, 2, 0, kOneDevice).row);
}

TEST(Tolerance, GrowsWithRoundoffDepthAndSums) {
  const auto bound = [](DType dtype, std::int64_t depth, std::int64_t length) {
    return row_bounds(dtype, depth, length, kOneDevice).row;
  };
  EXPECT_LT(bound(DType::float16, 8, 0), bound(DType::bfloat16, 8, 0));
  EXPECT_LT(bound(DType::bfloat16, 4, 0), bound(DType::bfloat16, 8, 0));
  EXPECT_LT(bound(DType::float32, 8, 1024), bound(DType::float32, 8, 2048));
  EXPECT_EQ(bound(DType::bfloat16, 0, 0), bound(DType::bfloat16, 1, 0));
}

TEST(Tolerance, OneRoundingIsWhatTheBoundTakesItFor) {
  // Numbers with significands spread as 1/m, rounded to eight bits.
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> exponent(0, 1);
  const double u = unit_roundoff(DType::bfloat16);
  double sum = 0;
  constexpr int kNumbers = 200'000;
  for (int i = 0; i < kNumbers; ++i) {
    const double number = std::exp2(exponent(random));
    const double rounded = std::round(number / (2 * u)) * 2 * u;
    sum += std::pow((rounded - number) / number / u, 2);
  }
  EXPECT_NEAR(std::sqrt(sum / kNumbers), 0.4246, 0.005);
}

TEST(Tolerance, RoundoffsAreThoseOfTheTypes) {
  // 1 + u rounds back to 1; 1 + 2u does not.
  const auto u = static_cast<float>(unit_roundoff(DType::float32));
  volatile float half = 1.0F + u;
  volatile float whole = 1.0F + 2 * u;
  EXPECT_EQ(half, 1.0F);
  EXPECT_NE(whole, 1.0F);
  EXPECT_THROW(unit_roundoff(DType::int32), ContractError);
}

TEST(Tolerance, ModeNames) {
  EXPECT_EQ(parse<CompareMode>("bitwise"), CompareMode::bitwise);
  EXPECT_EQ(parse<CompareMode>("tolerance"), CompareMode::tolerance);
  EXPECT_FALSE(parse<CompareMode>("none").has_value());
}

}  // namespace
}  // namespace dovetail
