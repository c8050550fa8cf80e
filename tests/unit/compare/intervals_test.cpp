#include "framework/compare/intervals.hpp"

#include <bitset>
#include <random>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

constexpr std::int64_t kSpan = 64;
using Bitmap = std::bitset<kSpan>;

/// The obviously right version: one bit a nanosecond.
Bitmap paint(const std::vector<Interval>& intervals) {
  Bitmap bits;
  for (const Interval& interval : intervals) {
    for (std::int64_t t = interval.start_ns; t < interval.end_ns; ++t) {
      bits.set(static_cast<std::size_t>(t));
    }
  }
  return bits;
}

std::vector<Interval> random_intervals(std::mt19937& random) {
  std::uniform_int_distribution<std::int64_t> point(0, kSpan);
  std::uniform_int_distribution<int> count(0, 8);
  std::vector<Interval> intervals;
  for (int i = count(random); i > 0; --i) {
    intervals.push_back({point(random), point(random)});  // also empty and reversed ones
  }
  return intervals;
}

void expect_is(const IntervalSet& set, const Bitmap& bits) {
  EXPECT_EQ(paint(set.intervals()), bits);
  EXPECT_EQ(set.length_ns(), static_cast<std::int64_t>(bits.count()));
  for (std::size_t i = 0; i < set.intervals().size(); ++i) {
    EXPECT_LT(set.intervals()[i].start_ns, set.intervals()[i].end_ns);
    if (i > 0) {
      EXPECT_LT(set.intervals()[i - 1].end_ns, set.intervals()[i].start_ns) << "touching";
    }
  }
}

TEST(Intervals, AgreeWithABitmap) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    const auto a = random_intervals(random);
    const auto b = random_intervals(random);
    const IntervalSet set_a(a);
    const IntervalSet set_b(b);
    expect_is(set_a, paint(a));
    expect_is(set_a.united(set_b), paint(a) | paint(b));
    expect_is(set_a.intersected(set_b), paint(a) & paint(b));
    expect_is(set_a.minus(set_b), paint(a) & ~paint(b));
    if (HasFailure()) {
      return;
    }
  }
}

TEST(Intervals, ByHand) {
  const IntervalSet set({{10, 20}, {20, 25}, {0, 5}, {7, 7}, {9, 3}});
  EXPECT_EQ(set.intervals(), (std::vector<Interval>{{0, 5}, {10, 25}}));
  EXPECT_EQ(set.minus(IntervalSet({{3, 12}, {24, 30}})).intervals(),
            (std::vector<Interval>{{0, 3}, {12, 24}}));
  // One hole over two intervals.
  EXPECT_EQ(set.minus(IntervalSet({{0, 100}})).length_ns(), 0);
}

}  // namespace
}  // namespace dovetail
