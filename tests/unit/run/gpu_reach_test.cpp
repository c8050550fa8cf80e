// Whose memory a GPU can map, from made-up answers of CUDA and NVML.
#include "framework/cuda/gpu_reach.hpp"

#include <gtest/gtest.h>

#include "framework/run/peer_reach.hpp"

namespace dovetail {
namespace {

using Uuids = std::vector<std::string>;

/// Of two ranks on one host, on GPUs a and b: what keeps the first from sharing memory.
std::string why_apart_of(const GpuReach& reach) {
  const RankReach first = {.host = "h",
                           .uuid = "a",
                           .reached = reach.reached,
                           .forbidden = "",
                           .apart = reach.apart,
                           .unseen = reach.unseen};
  const RankReach second = {.host = "h", .uuid = "b", .reached = {"a", "b"}, .forbidden = ""};
  return why_apart({first, second}, 2);
}

TEST(GpuReach, IsCudasWhereCudaShowsAllGpus) {
  const auto reach =
      merge_ways("a", {.reaches = {{"a", true}, {"b", true}, {"c", false}}, .problem = ""}, {});
  EXPECT_EQ(reach.reached, (Uuids{"a", "b"}));
  EXPECT_EQ(reach.apart, (Uuids{"c"}));
  EXPECT_EQ(why_apart_of(reach), "");
}

TEST(GpuReach, IsNvmlsOfGpusThatCudaHides) {
  const GpuWays shown = {.reaches = {{"a", true}}, .problem = ""};
  EXPECT_EQ(why_apart_of(merge_ways("a", shown, {.reaches = {{"b", true}}, .problem = ""})), "");
  EXPECT_EQ(why_apart_of(merge_ways("a", shown, {.reaches = {{"b", false}}, .problem = ""})),
            "the GPU of rank 0 does not reach the memory of that of rank 1");
}

TEST(GpuReach, CudaKnowsBetterOfWhatItShows) {
  const GpuWays nvml = {.reaches = {{"b", true}}, .problem = ""};
  EXPECT_EQ(merge_ways("a", {.reaches = {{"b", false}}, .problem = ""}, nvml).apart, (Uuids{"b"}));
}

TEST(GpuReach, SaysWhyItIsNotSeen) {
  const GpuWays shown = {.reaches = {{"a", true}}, .problem = ""};
  EXPECT_EQ(why_apart_of(merge_ways("a", shown, {.reaches = {}, .problem = "NVML is not there"})),
            "rank 0 cannot see whether its GPU reaches that of rank 1: NVML is not there");
  EXPECT_EQ(why_apart_of(merge_ways("a", shown, {.reaches = {{"c", true}}, .problem = ""})),
            "rank 0 cannot see whether its GPU reaches that of rank 1: neither CUDA nor NVML lists "
            "that one, but 2 in all");
}

TEST(GpuReach, OfAGpuIsItsOwnMemoryAtLeast) {
  const auto reach = merge_ways("a", {}, {.reaches = {}, .problem = "no"});
  EXPECT_EQ(reach.reached, (Uuids{"a"}));
  EXPECT_EQ(reach.apart, Uuids{});
}

TEST(GpuReach, NvmlWritesUuidsInItsOwnWay) {
  EXPECT_EQ(bare_uuid("GPU-0a1b2c3d-4E5F-6071-8293-a4b5c6d7e8f9"),
            "0a1b2c3d4e5f60718293a4b5c6d7e8f9");
  EXPECT_EQ(bare_uuid("0a1b"), "0a1b");
}

}  // namespace
}  // namespace dovetail
