// The byte counter of an exchange: what is captured stays apart, and on a device the routing's own
// count gives the logical bytes.
#include "framework/comm/exchange/traffic_meter.hpp"

#include <gtest/gtest.h>

namespace dovetail {
namespace {

Traffic one_of_each() {
  return {.dispatch_wire_bytes = 1,
          .combine_wire_bytes = 2,
          .dispatch_received_bytes = 3,
          .combine_received_bytes = 4,
          .dispatch_logical_bytes = 5,
          .combine_logical_bytes = 6,
          .counts_wait_ns = 7};
}

void expect_times(const Traffic& traffic, std::int64_t times) {
  EXPECT_EQ(traffic.dispatch_wire_bytes, times);
  EXPECT_EQ(traffic.combine_wire_bytes, 2 * times);
  EXPECT_EQ(traffic.dispatch_received_bytes, 3 * times);
  EXPECT_EQ(traffic.combine_received_bytes, 4 * times);
  EXPECT_EQ(traffic.dispatch_logical_bytes, 5 * times);
  EXPECT_EQ(traffic.combine_logical_bytes, 6 * times);
  EXPECT_EQ(traffic.counts_wait_ns, 7 * times);
}

TEST(TrafficMeter, SumsSinceTheLastReset) {
  TrafficMeter meter;
  expect_times(meter.traffic(), 0);
  meter.add(one_of_each());
  meter.add(one_of_each());
  expect_times(meter.traffic(), 2);
  meter.reset();
  expect_times(meter.traffic(), 0);
}

TEST(TrafficMeter, WhatIsCapturedCountsWithEachReplayOnly) {
  TrafficMeter meter;
  meter.add_captured(one_of_each());
  meter.add_captured(one_of_each());
  expect_times(meter.traffic(), 0);
  meter.reset();  // of what was sent: the graph is still there
  const auto of_a_replay = meter.take_captured();
  expect_times(of_a_replay, 2);
  expect_times(meter.take_captured(), 0);
  for (int replay = 1; replay <= 3; ++replay) {
    meter.add(of_a_replay);
    expect_times(meter.traffic(), 2 * replay);
  }
}

TEST(TrafficMeter, LogicalBytesOfADeviceFollowItsOwnCount) {
  std::int64_t choices = 0;
  TrafficMeter meter([&] {
    return Traffic{.dispatch_logical_bytes = choices * 10, .combine_logical_bytes = choices * 10};
  });
  choices = 7;
  EXPECT_EQ(meter.traffic().dispatch_logical_bytes, 70);
  EXPECT_EQ(meter.traffic().combine_logical_bytes, 70);
  EXPECT_EQ(meter.traffic().dispatch_wire_bytes, 0);
  meter.reset();
  EXPECT_EQ(meter.traffic().dispatch_logical_bytes, 0);
  choices = 12;
  // Steps that are not to count are taken out again: a reset, and the sums from before.
  const auto before = meter.traffic();
  choices = 100;
  meter.reset();
  meter.add(before);
  choices = 101;
  EXPECT_EQ(meter.traffic().dispatch_logical_bytes, 60);
  EXPECT_EQ(meter.traffic().combine_logical_bytes, 60);
}

/// All that a device counts, from the reset on; what the host adds comes on top.
TEST(TrafficMeter, EachPartOfADeviceCounts) {
  Traffic counted;
  TrafficMeter meter([&] { return counted; });
  counted += one_of_each();
  meter.reset();
  counted += one_of_each();
  counted += one_of_each();
  expect_times(meter.traffic(), 2);
  meter.add(one_of_each());
  expect_times(meter.traffic(), 3);
  auto less = meter.traffic();
  less -= one_of_each();
  expect_times(less, 2);
}

}  // namespace
}  // namespace dovetail
