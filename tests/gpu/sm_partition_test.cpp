// SMs left to the exchange: set, nested, and given back however the scope is left.
#include "framework/cuda/sm_partition.hpp"

#include <stdexcept>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/num_sms.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail {
namespace {

TEST(SmPartition, IsNestedAndGivenBack) {
  DOVETAIL_REQUIRE_GPU();
  ASSERT_EQ(SmPartition::left_out(), 0);
  {
    const SmPartition outer(8);
    EXPECT_EQ(SmPartition::left_out(), 8);
    EXPECT_EQ(SmPartition::sms_to_compute(), num_sms() - 8);
    {
      const SmPartition inner(16);
      EXPECT_EQ(SmPartition::left_out(), 16);
      const SmPartition innermost(0);
      EXPECT_EQ(SmPartition::left_out(), 0);
    }
    EXPECT_EQ(SmPartition::left_out(), 8);
  }
  EXPECT_EQ(SmPartition::left_out(), 0);
}

TEST(SmPartition, IsGivenBackByExceptions) {
  DOVETAIL_REQUIRE_GPU();
  const SmPartition outer(4);
  try {
    const SmPartition inner(20);
    throw std::runtime_error("on purpose");
  } catch (const std::runtime_error&) {
    EXPECT_EQ(SmPartition::left_out(), 4);
  }
  EXPECT_EQ(SmPartition::left_out(), 4);
}

TEST(SmPartition, RefusesWhatLeavesNothing) {
  DOVETAIL_REQUIRE_GPU();
  EXPECT_THROW(SmPartition(-1), InputError);
  EXPECT_THROW(SmPartition(100'000), InputError);
  EXPECT_EQ(SmPartition::left_out(), 0) << "a refused one changes nothing";
}

}  // namespace
}  // namespace dovetail
