// Whether a run's memory is there, and on how many GPUs it would be.
#include "framework/run/memory_fit.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "framework/base/host_memory.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/rank_memory.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_architectures;
using testing::fake_experiment;

constexpr std::int64_t kExpertBytes = 8'000'000;  // of FakeArchitecture, over all ranks

CheckedRun check_on(const std::string& device, int num_ranks, int rounds = 1) {
  return check_run(
      fake_experiment("workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
                      "execution: {dtype: bfloat16, rounds: " +
                      std::to_string(rounds) + ", device: " + device +
                      "}\n"
                      "policies: [{name: sequential}, {name: large, schedule: sequential, "
                      "cache_tokens: 160000}]\n"),
      num_ranks,
      {fake_architectures(), {}},
      planning_capabilities({"fake"}));
}

TEST(MemoryFit, EachPolicyOnGpusCountsTheRankThatHasMost) {
  const auto run = check_on("cuda", 2);
  ASSERT_EQ(run.place.device, DeviceKind::cuda);
  const auto fits = fit_memory(run, 2 * kExpertBytes);
  ASSERT_EQ(fits.size(), 2U);
  EXPECT_TRUE(fits[0].fits);
  EXPECT_GT(fits[0].needed_bytes, kExpertBytes);
  EXPECT_LT(fits[0].needed_bytes, kExpertBytes + kExpertBytes / 2);
  EXPECT_FALSE(fits[1].fits);
  EXPECT_GE(fits[1].needed_bytes, kExpertBytes + std::int64_t{160'000} * 64)
      << "keys and values of a token: 2 x 2 layers x 8 elements x 2 bytes";
  EXPECT_EQ(
      describe(fits[0], std::int64_t{2} << 30),
      "policy sequential: what is counted fits, needs 0.01 of 2.00 GiB; 1.99 GiB are left for "
      "what is not; the smallest expert_parallel that fits is 1 (0.01 GiB)");
}

TEST(MemoryFit, FindsTheSmallestGrid) {
  const auto run = check_on("cuda", 1);
  const auto small = fit_memory(run, kExpertBytes / 2).front();
  EXPECT_FALSE(small.fits);
  ASSERT_TRUE(small.smallest);
  EXPECT_EQ(small.smallest->expert_parallel, 4);
  EXPECT_LE(small.smallest->needed_bytes, kExpertBytes / 2);
  EXPECT_TRUE(describe(small, kExpertBytes / 2)
                  .ends_with("; the smallest expert_parallel that fits is 4 (0.00 GiB)"));
  const auto none = fit_memory(run, 1000).front();
  EXPECT_FALSE(none.smallest);
  EXPECT_TRUE(describe(none, 1000).ends_with(" GiB, and would not with expert_parallel up to 8"));
}

TEST(MemoryFit, SaysWhatAFittingGridCouldDoWithout) {
  const auto of_grid = [](int expert_parallel, std::int64_t available) {
    const auto run =
        check_run(fake_experiment("workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
                                  "parallel: {expert_parallel: " +
                                  std::to_string(expert_parallel) +
                                  "}\nexecution: {dtype: bfloat16, device: cuda}\n"
                                  "policies: [{name: sequential}]\n"),
                  expert_parallel,
                  {fake_architectures(), {}},
                  planning_capabilities({"fake"}));
    return fit_memory(run, available).front();
  };
  constexpr std::int64_t available = kExpertBytes / 2;
  const auto large = of_grid(8, available);
  ASSERT_TRUE(large.fits && large.smallest);
  EXPECT_EQ(large.smallest->expert_parallel, 4);
  EXPECT_TRUE(describe(large, available)
                  .ends_with("; the smallest expert_parallel that fits is 4 (0.00 GiB)"));
  const auto smallest = of_grid(4, available);
  ASSERT_TRUE(smallest.fits && smallest.smallest);
  EXPECT_EQ(smallest.smallest->expert_parallel, 4);
  EXPECT_EQ(smallest.smallest->needed_bytes, smallest.needed_bytes);
  EXPECT_TRUE(describe(smallest, available)
                  .ends_with("; the smallest expert_parallel that fits is 4 (0.00 GiB)"));
}

TEST(MemoryFit, CpuRanksShareTheMemoryOfTheirHost) {
  const auto one = fit_memory(check_on("cpu", 1), kExpertBytes * 2).front();
  const auto two = fit_memory(check_on("cpu", 2), kExpertBytes * 2).front();
  EXPECT_EQ(two.needed_bytes, 2 * one.needed_bytes) << "two replicas with equal requests";
  EXPECT_TRUE(one.fits);
  EXPECT_FALSE(two.fits);
  EXPECT_FALSE(two.smallest) << "more ranks of one host take no less";
}

TEST(MemoryFit, CachesAndOutputsOfAllPoliciesAreThereInRounds) {
  for (const char* device : {"cpu", "cuda"}) {
    const auto alone = fit_memory(check_on(device, 1), kExpertBytes);
    const auto turns = fit_memory(check_on(device, 1, 2), kExpertBytes);
    EXPECT_EQ(turns[0].needed_bytes, turns[1].needed_bytes) << device;
    EXPECT_GT(turns[0].needed_bytes, alone[1].needed_bytes) << device;
    const auto more = turns[0].needed_bytes - alone[0].needed_bytes;
    EXPECT_GE(more, std::int64_t{160'000} * 64) << device << ": the large cache beside its own";
    EXPECT_LE(more, std::int64_t{160'000} * 64 + 20'000) << device << ": a page, and outputs";
  }
}

/// Contexts that were filled with the router's own experts, and with those of the baseline.
TEST(MemoryFit, ReplayedContextsHaveACacheOfTheirOwnInRounds) {
  const auto cache_of = [](const std::string& more) {
    const auto run =
        check_run(fake_experiment("workload: {phase: prefill, requests: {count: 1, length: 16, "
                                  "context_length: 160}}\n"
                                  "policies: [{name: sequential}, {name: dual_batch}]\n" +
                                  more),
                  1,
                  {fake_architectures(), {}},
                  planning_capabilities({"fake"}));
    const auto parts = rank_memory(run, 0);
    const auto cache = std::find_if(
        parts.begin(), parts.end(), [](const auto& part) { return part.name == "kv cache"; });
    return cache->bytes;
  };
  const std::string replay = "verify: {baseline: sequential, mode: tolerance, routing: replay}\n";
  const auto one = cache_of("execution: {rounds: 1}\n" + replay);
  EXPECT_EQ(cache_of("execution: {rounds: 2}\n" + replay), 2 * one);
  EXPECT_EQ(cache_of("execution: {rounds: 2}\nverify: {baseline: sequential, mode: tolerance, "
                     "routing: natural}\n"),
            one);
}

TEST(AvailableMemory, IsWhatIsGivenOrFound) {
  const auto gpu = available_memory(check_on("cuda", 1), 5000);
  ASSERT_TRUE(gpu);
  EXPECT_EQ(gpu->bytes, 5000);
  EXPECT_EQ(gpu->source, "--gpu-memory-gib");
  EXPECT_EQ(available_memory(check_on("cuda", 1), std::nullopt).has_value(),
            !visible_gpus().empty());
  const auto host = available_memory(check_on("cpu", 1), 5000);
  ASSERT_TRUE(host);
  EXPECT_EQ(host->bytes, host_memory().value().bytes);
}

}  // namespace
}  // namespace dovetail
