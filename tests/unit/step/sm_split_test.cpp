// How many SMs each part of a device gets, without one.
#include "framework/cuda/sm_split.hpp"

#include <initializer_list>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

/// 132 SMs, parts of 8 and more in steps of 8: an H200.
TEST(SmSplit, RoundsUpAndLeavesEnoughOnEitherSide) {
  for (const auto& [wanted, comm] : std::initializer_list<std::pair<int, int>>{
           {8, 8}, {9, 16}, {16, 16}, {64, 64}, {120, 120}}) {
    const auto split = split_sms(wanted, 132, 8, 8);
    EXPECT_EQ(split.comm_sms, comm);
    EXPECT_EQ(split.compute_sms, 132 - comm);
  }
  for (const int wanted : {-1, 0, 4, 7, 121, 130, 100'000}) {
    EXPECT_EQ(testing::input_error_of([&] { split_sms(wanted, 132, 8, 8); }),
              "comm_sms = " + std::to_string(wanted) +
                  " as a partition of their own of a GPU with 132 SMs; allowed: 8 to 120, rounded "
                  "up to a multiple of 8");
  }
}

}  // namespace
}  // namespace dovetail
