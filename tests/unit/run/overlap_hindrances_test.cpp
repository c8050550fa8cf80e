// Variables that take overlap away.
#include "framework/run/overlap_hindrances.hpp"

#include <map>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

std::vector<std::string> hindrances(const std::map<std::string, std::string>& environment) {
  return overlap_hindrances([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(OverlapHindrances, AnEmptyEnvironmentHasNone) {
  EXPECT_TRUE(hindrances({}).empty());
  EXPECT_EQ(describe_hindrances({}), "none");
}

TEST(OverlapHindrances, AreNamedWithTheirValues) {
  const auto found = hindrances({{"CUDA_DEVICE_MAX_CONNECTIONS", "1"},
                                 {"CUDA_LAUNCH_BLOCKING", "1"},
                                 {"NCCL_P2P_DISABLE", "1"},
                                 {"NCCL_PROTO", "LL"}});
  ASSERT_EQ(found.size(), 4U);
  EXPECT_TRUE(found[0].starts_with("CUDA_DEVICE_MAX_CONNECTIONS=1: all streams")) << found[0];
  EXPECT_TRUE(found[1].starts_with("CUDA_LAUNCH_BLOCKING=1: each launch")) << found[1];
  EXPECT_TRUE(found[2].starts_with("NCCL_P2P_DISABLE=1: GPUs of a host")) << found[2];
  EXPECT_TRUE(found[3].starts_with("NCCL_PROTO=LL: one protocol")) << found[3];
  EXPECT_EQ(describe_hindrances({"a", "b"}), "a; b");
}

TEST(OverlapHindrances, ValuesThatTurnThemOffAreNone) {
  EXPECT_TRUE(hindrances({{"CUDA_DEVICE_MAX_CONNECTIONS", "8"},
                          {"CUDA_LAUNCH_BLOCKING", "0"},
                          {"NCCL_P2P_DISABLE", "0"},
                          {"NCCL_SHM_DISABLE", ""},
                          {"NCCL_ALGO", ""},
                          {"NCCL_NVLS_ENABLE", "0"},
                          {"NCCL_DEBUG", "INFO"}})
                  .empty());
  EXPECT_EQ(hindrances({{"CUDA_LAUNCH_BLOCKING", "yes"}}).size(), 1U);
}

}  // namespace
}  // namespace dovetail
