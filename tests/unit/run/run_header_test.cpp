// The first line of a run.
#include "framework/run/run_header.hpp"

#include <gtest/gtest.h>

#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_experiment;

constexpr const char* kWorkload = "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n";

std::string describe(const std::string& more,
                     const RankGrid& grid,
                     const RunPlaces& places,
                     const std::vector<std::string>& exchanges) {
  std::vector<ResolvedPolicy> policies;
  for (const auto& exchange : exchanges) {
    policies.emplace_back();
    policies.back().execution.exchange = exchange;
    policies.back().execution.comm_sms = policies.size() == 2 ? 8 : kAllSms;
    policies.back().execution.plain_comm_sms = kAllSms;
    if (policies.size() >= 2) {
      policies.back().execution.sm_partition = SmPartitionKind::hard;
    }
  }
  return describe_run(fake_experiment(kWorkload + more), grid, places, policies);
}

const RunPlaces kOneHost = {.num_hosts = 1, .on_gpu = false, .devices = {"A CPU", "A CPU"}};

TEST(DescribeRun, SaysWhatDecidesTimesAndNumbers) {
  EXPECT_EQ(describe("parallel: {expert_parallel: 2}\n"
                     "execution: {warmup: 3, iterations: 1}\n"
                     "policies: [{name: sequential}]\n",
                     {2, 2},
                     kOneHost,
                     {"ragged"}),
            "run: 2 ranks on 1 host; cpu (A CPU); expert parallel 2 x data parallel 1; dtype "
            "float32; numerics fast; exchange ragged; link shared memory of the host; 1 iteration "
            "after 3 of warm-up");
}

TEST(DescribeRun, NamesWhatPoliciesStateDifferently) {
  const auto line = describe(
      "execution: {link: {latency_us: 20, gbytes_per_s: 1}}\n"
      "policies: [{name: sequential, iterations: 5, numerics: batch_invariant, link: none},\n"
      "  {name: a, schedule: dual_batch}, {name: b, schedule: dual_batch}]\n",
      {4, 2},
      {.num_hosts = 2, .on_gpu = false, .devices = {"A CPU", "A CPU", "Another", "Another"}},
      {"ragged", "gather", "ragged"});
  EXPECT_NE(line.find("4 ranks on 2 hosts; cpu (A CPU; Another)"), std::string::npos) << line;
  EXPECT_NE(line.find("expert parallel 2 x data parallel 2"), std::string::npos) << line;
  EXPECT_NE(line.find("numerics fast (sequential: batch_invariant)"), std::string::npos) << line;
  EXPECT_NE(line.find("exchange ragged (a: gather)"), std::string::npos) << line;
  EXPECT_NE(line.find("link emulated: 20 us, 1 GB/s (sequential: MPI, also between hosts)"),
            std::string::npos)
      << line;
  EXPECT_NE(line.find("10 iterations after 2 of warm-up (sequential: 5 iterations after 2 of "
                      "warm-up)"),
            std::string::npos)
      << line;
}

TEST(DescribeRun, CountsTheCards) {
  const std::string more = "execution: {dtype: bfloat16}\npolicies: [{name: sequential}]\n";
  const auto line = describe(
      more, {4, 1}, {.num_hosts = 2, .on_gpu = true, .devices = {"H", "H", "L", "H"}}, {"gather"});
  EXPECT_NE(line.find("cuda (3 x H; 1 x L)"), std::string::npos) << line;
  EXPECT_NE(line.find("link none (each rank holds all experts)"), std::string::npos) << line;
  EXPECT_NE(describe(more, {2, 2}, {.num_hosts = 1, .on_gpu = true, .devices = {"H", "H"}}, {"a"})
                .find("link NCCL within the host"),
            std::string::npos);
  const auto two = describe(
      "execution: {dtype: bfloat16}\npolicies: [{name: a, schedule: sequential}, {name: b, "
      "schedule: dual_batch}, {name: c, schedule: sequential}]\n",
      {2, 2},
      {.num_hosts = 1, .on_gpu = true, .devices = {"H", "H"}},
      {"g", "g", "g"});
  EXPECT_NE(two.find("exchange g; comm SMs all (b: 8 (hard)/all); link"), std::string::npos) << two;
  EXPECT_EQ(line.find("comm SMs"), std::string::npos) << "one rank exchanges nothing: " << line;
  EXPECT_NE(describe(more, {64, 2}, {.num_hosts = 0, .on_gpu = true, .devices = {"H"}}, {"a"})
                .find("run: 64 ranks; cuda"),
            std::string::npos)
      << "hosts that are not known";
}

}  // namespace
}  // namespace dovetail
