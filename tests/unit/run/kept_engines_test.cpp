// Which engines stay alive between rounds, and which go.
#include "framework/run/kept_engines.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

constexpr EngineState kNotRun = {};

constexpr EngineState alive(std::int64_t held, std::int64_t passing) {
  return {.has_run = true, .is_alive = true, .held = held, .least_held = held, .passing = passing};
}

constexpr EngineState gone(std::int64_t held, std::int64_t passing) {
  return {.has_run = true, .is_alive = false, .held = held, .least_held = held, .passing = passing};
}

using Freed = std::vector<std::size_t>;

/// With all alive a turn takes only what it gives back.
TEST(EnginesToFree, NoneWhereTheLargestPassingStepFits) {
  const std::vector engines = {alive(50, 5), alive(80, 9), alive(10, 7)};
  EXPECT_EQ(engines_to_free(engines, 0, 9), Freed{});
  EXPECT_EQ(engines_to_free(engines, 0, 8), Freed{0});
}

/// An engine that is made anew needs what it holds as well.
TEST(EnginesToFree, TheOwnWhereOneThatHasGoneNeedsItsMemory) {
  const std::vector engines = {alive(50, 5), gone(30, 10), alive(90, 0)};
  EXPECT_EQ(engines_to_free(engines, 0, 40), Freed{});
  EXPECT_EQ(engines_to_free(engines, 0, 39), Freed{0});
}

/// What has gone has to fit again.
TEST(EnginesToFree, OthersWhereTheOwnIsNotEnough) {
  const std::vector engines = {alive(20, 0), alive(4, 5), gone(50, 10), alive(8, 0), alive(8, 0)};
  EXPECT_EQ(engines_to_free(engines, 1, 56), (Freed{1}));
  EXPECT_EQ(engines_to_free(engines, 1, 36), (Freed{1, 0}));
  EXPECT_EQ(engines_to_free(engines, 1, 35), (Freed{1, 0, 3})) << "of equal ones the first";
}

/// Ranks hold differently much, and all free the same engines.
TEST(EnginesToFree, CountWhatTheRankThatHoldsLeastGivesBack) {
  std::vector engines = {alive(20, 0), alive(20, 0), gone(50, 10)};
  EXPECT_EQ(engines_to_free(engines, 0, 40), (Freed{0}));
  engines[0].least_held = 19;
  EXPECT_EQ(engines_to_free(engines, 0, 40), (Freed{0, 1}));
}

/// A policy may need more than all that have run.
TEST(EnginesToFree, LeaveFourLargestEnginesToAPolicyThatHasNotRun) {
  const std::vector engines = {alive(10, 5), gone(2, 2), kNotRun};
  EXPECT_EQ(engines_to_free(engines, 0, 60), Freed{});
  EXPECT_EQ(engines_to_free(engines, 0, 59), Freed{0});
  EXPECT_EQ(engines_to_free(std::vector{alive(10, 5), gone(2, 2)}, 0, 5), Freed{});
}

/// As without engines beside each other: whether it fits is seen when it runs.
TEST(EnginesToFree, AllWhereEvenThatIsNotEnough) {
  EXPECT_EQ(engines_to_free(std::vector{alive(10, 5), kNotRun, alive(12, 1)}, 0, -20),
            (Freed{0, 2}));
  EXPECT_EQ(engines_to_free(std::vector{gone(10, 5), alive(1, 1)}, 1, 0), Freed{1});
}

}  // namespace
}  // namespace dovetail
