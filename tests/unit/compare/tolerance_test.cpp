#include "framework/compare/tolerance.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

TEST(Tolerance, Float32IsTheStatedNumberForBothGrids) {
  for (const GridRelation grid : {GridRelation::same, GridRelation::different}) {
    EXPECT_EQ(tolerance_rule(DType::float32, grid, 61).max_error, 2e-6);
  }
}

TEST(Tolerance, EveryRuleHasAReasonAndUsableBounds) {
  for (const std::string_view name : names<DType>()) {
    const DType dtype = *parse<DType>(name);
    const ToleranceRule rule = tolerance_rule(dtype, GridRelation::same, 4);
    EXPECT_FALSE(rule.reason.empty()) << name;
    EXPECT_LT(rule.max_error, 0.1) << name;
    EXPECT_LE(rule.max_excluded_share, 0.5) << name;
    EXPECT_LT(rule.max_flip_share, 0.5) << name;
  }
  EXPECT_EQ(tolerance_rule(DType::int64, GridRelation::same, 4).max_error, 0);
}

TEST(Tolerance, GrowsWithRoundoffDepthAndGrid) {
  const auto error = [](DType dtype, GridRelation grid, int layers) {
    return tolerance_rule(dtype, grid, layers).max_error;
  };
  EXPECT_DOUBLE_EQ(error(DType::bfloat16, GridRelation::same, 8), 4 * std::ldexp(1, -8) * 4);
  EXPECT_DOUBLE_EQ(error(DType::float16, GridRelation::same, 8), 4 * std::ldexp(1, -11) * 4);
  EXPECT_LT(error(DType::bfloat16, GridRelation::same, 8),
            error(DType::bfloat16, GridRelation::different, 8));
  EXPECT_LT(error(DType::bfloat16, GridRelation::same, 4),
            error(DType::bfloat16, GridRelation::same, 8));
  EXPECT_EQ(error(DType::bfloat16, GridRelation::same, 0),
            error(DType::bfloat16, GridRelation::same, 1));
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
