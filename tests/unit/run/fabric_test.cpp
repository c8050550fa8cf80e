// What `parallel.fabric` sets, and what it refuses.
#include "framework/run/fabric.hpp"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/checked_run.hpp"
#include "framework/run/peer_reach.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_architectures;
using testing::fake_experiment;
using testing::input_error_of;

using Environment = std::map<std::string, std::string>;

std::string refused(Fabric fabric, const Environment& environment) {
  return input_error_of([&] {
    check_fabric_variables(fabric, [&](const char* name) {
      const auto found = environment.find(name);
      return found == environment.end() ? nullptr : found->second.c_str();
    });
  });
}

Environment of(Fabric fabric) {
  Environment all;
  for (const auto& one : fabric_variables(fabric)) {
    all[one.name] = one.value;
  }
  return all;
}

/// Device and exchange of a run with one policy.
std::string check_error(const std::string& fabric, const std::string& execution) {
  return input_error_of([&] {
    static_cast<void>(
        check_run(fake_experiment("parallel: {expert_parallel: 2, fabric: " + fabric +
                                  "}\n"
                                  "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
                                  "execution: {dtype: bfloat16, " +
                                  execution + "}\npolicies: [{name: sequential}]\n"),
                  2,
                  {fake_architectures(), {}},
                  planning_capabilities({"fake"})));
  });
}

TEST(Fabric, SetsWhatKeepsNcclFromTheFasterOnes) {
  EXPECT_TRUE(of(Fabric::automatic).empty());
  EXPECT_EQ(of(Fabric::nvlink), (Environment{{"NCCL_P2P_DISABLE", "0"}}));
  EXPECT_EQ(of(Fabric::shared_memory).at("NCCL_P2P_DISABLE"), "1");
  EXPECT_EQ(of(Fabric::shared_memory).at("NCCL_SHM_DISABLE"), "0");
  EXPECT_EQ(of(Fabric::socket).at("NCCL_P2P_DISABLE"), "1");
  EXPECT_EQ(of(Fabric::socket).at("NCCL_SHM_DISABLE"), "1");
  EXPECT_EQ(of(Fabric::socket).at("NCCL_NET"), "Socket");
}

TEST(Fabric, WhatTheUserHasSetOtherwiseIsNamed) {
  EXPECT_EQ(refused(Fabric::automatic, {{"NCCL_P2P_DISABLE", "1"}}), "") << "the user's choice";
  EXPECT_EQ(refused(Fabric::shared_memory, {}), "");
  EXPECT_EQ(refused(Fabric::shared_memory, of(Fabric::shared_memory)), "") << "a later point";
  EXPECT_EQ(refused(Fabric::socket, {{"NCCL_NET", "socket"}, {"NCCL_SHM_DISABLE", ""}}), "");
  EXPECT_EQ(refused(Fabric::nvlink, {{"NCCL_P2P_DISABLE", "1"}}),
            "parallel.fabric: nvlink needs NCCL_P2P_DISABLE=0, and the environment has "
            "NCCL_P2P_DISABLE=1; unset it, or leave parallel.fabric out");
  EXPECT_NE(refused(Fabric::shared_memory, {{"NCCL_SHM_DISABLE", "1"}}).find("NCCL_SHM_DISABLE=1"),
            std::string::npos);
  EXPECT_NE(refused(Fabric::socket, {{"NCCL_NET", "IB"}}).find("NCCL_NET=IB"), std::string::npos);
  EXPECT_NE(refused(Fabric::socket, {{"NCCL_P2P_LEVEL", "NVL"}}).find("NCCL_P2P_LEVEL=NVL"),
            std::string::npos);
}

TEST(Fabric, OfRanksOnTheCpuIsRefused) {
  for (const char* fabric : {"nvlink", "shared_memory", "socket"}) {
    EXPECT_EQ(check_error(fabric, "device: cpu"),
              "parallel.fabric: " + std::string(fabric) +
                  " is for ranks on GPUs, and these are on the CPU, where execution.link emulates "
                  "a slow network; allowed: auto, or execution.device: cuda");
  }
  EXPECT_EQ(check_error("auto", "device: cpu"), "");
  EXPECT_NE(check_error("infiniband", "device: cuda"), "");
}

TEST(Fabric, ThatKeepsGpusApartTakesNoSharedMemory) {
  EXPECT_EQ(check_error("nvlink", "device: cuda, exchange: symmetric"), "");
  for (const char* exchange : {"symmetric", "copy_engine"}) {
    EXPECT_NE(check_error("shared_memory", std::string("device: cuda, exchange: ") + exchange)
                  .find(std::string("policy sequential: execution.exchange: ") + exchange +
                        " needs GPUs that reach each other's memory, and parallel.fabric is "
                        "shared_memory"),
              std::string::npos)
        << exchange;
  }
  EXPECT_EQ(check_error("socket", "device: cuda, exchange: gather"), "");
  EXPECT_EQ(check_error("socket", "device: cuda, exchange: auto"), "");
  const auto run =
      check_run(fake_experiment("parallel: {expert_parallel: 2, fabric: socket}\n"
                                "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
                                "execution: {dtype: bfloat16, device: cuda}\n"
                                "policies: [{name: sequential}]\n"),
                2,
                {fake_architectures(), {}},
                planning_capabilities({"fake"}));
  EXPECT_EQ(run.policies.front().execution.exchange, "gather");
  EXPECT_NE(run.policies.front().execution.exchange_reason.find(
                "not symmetric, because parallel.fabric is socket"),
            std::string::npos);
}

TEST(Fabric, IsOneInAProcess) {
  std::vector<Experiment> points(2);
  EXPECT_NO_THROW(check_one_fabric(points));
  points[1].parallel.fabric = Fabric::socket;
  EXPECT_EQ(input_error_of([&] { check_one_fabric(points); }),
            "parallel.fabric is auto in the first point of the sweep and socket in another, and "
            "NCCL reads its variables once in a process; run each point by itself, with --point");
}

TEST(Fabric, OfNvlinkNeedsAWayBetweenGpusOfAHost) {
  std::vector<RankReach> ranks = {
      {"a", "0", {"0", "1"}, ""}, {"a", "1", {"1"}, "", {"0"}}, {"b", "2", {"2"}, ""}};
  EXPECT_EQ(why_no_way(ranks, 3), "the GPU of rank 1 does not reach the memory of that of rank 0");
  ranks[1].reached = {"0", "1"};
  EXPECT_EQ(why_no_way(ranks, 3), "") << "hosts may be apart";
  EXPECT_EQ(why_apart(ranks, 3), "ranks 0 and 2 are on hosts a and b");
}

}  // namespace
}  // namespace dovetail
