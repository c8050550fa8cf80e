// The bound of the error of a time between two CUDA events, against float32 itself.
#include "framework/cuda/event_resolution.hpp"

#include <gtest/gtest.h>

namespace dovetail {
namespace {

TEST(EventError, CoversTheRoundingToFloatMilliseconds) {
  for (double ns = 1000; ns < 1e12; ns *= 1.07) {
    const double given = static_cast<double>(static_cast<float>(ns / 1e6)) * 1e6;
    EXPECT_LE(std::abs(given - ns), event_error_ns(ns) - kEventResolutionNs + 1e-6 * ns / 1e6)
        << ns;
    EXPECT_GE(event_error_ns(ns), kEventResolutionNs);
  }
}

TEST(EventError, GrowsWithTheTime) {
  EXPECT_LT(event_error_ns(1e6), 501);
  EXPECT_GT(event_error_ns(1e10), 950) << "a step of 10 s";
  EXPECT_EQ(event_error_ns(-1e10), event_error_ns(1e10));
}

}  // namespace
}  // namespace dovetail
