// Which ep groups can share memory.
#include "framework/run/peer_reach.hpp"

#include <map>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

/// `count` ranks of one host, each with a GPU of its own that reaches all.
std::vector<RankReach> host_of(const std::string& host, int count) {
  std::vector<std::string> uuids;
  uuids.reserve(static_cast<std::size_t>(count));
  for (int rank = 0; rank < count; ++rank) {
    uuids.push_back(host + "-gpu-" + std::to_string(rank));
  }
  std::vector<RankReach> ranks;
  ranks.reserve(uuids.size());
  for (const auto& uuid : uuids) {
    ranks.push_back({.host = host, .uuid = uuid, .reached = uuids, .forbidden = ""});
  }
  return ranks;
}

TEST(PeerReach, RanksOfOneHostReachEachOther) {
  EXPECT_EQ(why_apart(host_of("a", 4), 4), "");
  EXPECT_EQ(why_apart(host_of("a", 4), 2), "");
  EXPECT_EQ(why_apart({}, 2), "");
}

TEST(PeerReach, GroupsMayBeOnSeveralHosts) {
  auto ranks = host_of("a", 2);
  for (const auto& rank : host_of("b", 2)) {
    ranks.push_back(rank);
  }
  EXPECT_EQ(why_apart(ranks, 2), "");
  EXPECT_EQ(why_apart(ranks, 4), "ranks 0 and 2 are on hosts a and b");
}

TEST(PeerReach, OneWayThatIsMissingIsNamed) {
  auto ranks = host_of("a", 4);
  ranks[3].reached = {ranks[2].uuid, ranks[3].uuid};
  ranks[3].apart = {ranks[0].uuid, ranks[1].uuid};
  EXPECT_EQ(why_apart(ranks, 2), "");
  EXPECT_EQ(why_apart(ranks, 4), "the GPU of rank 3 does not reach the memory of that of rank 0");
}

/// A launcher shows each rank its own GPU only.
TEST(PeerReach, AGpuThatNobodySeesIsNoGpuWithoutAWay) {
  auto ranks = host_of("a", 2);
  for (auto& rank : ranks) {
    rank.reached = {rank.uuid};
    rank.unseen = "NVML is not there";
  }
  EXPECT_EQ(why_apart(ranks, 2),
            "rank 0 cannot see whether its GPU reaches that of rank 1: NVML is not there");
  EXPECT_EQ(why_no_way(ranks, 2), why_apart(ranks, 2));
  EXPECT_EQ(why_apart(ranks, 1), "") << "there is nobody to reach";
}

TEST(PeerReach, VariablesForbidIt) {
  std::map<std::string, std::string> set;
  const auto variable = [&](const char* name) -> const char* {
    const auto found = set.find(name);
    return found == set.end() ? nullptr : found->second.c_str();
  };
  EXPECT_EQ(what_forbids_sharing(variable), "");
  for (const auto* name : {"NCCL_P2P_DISABLE", "NCCL_CUMEM_ENABLE", "NCCL_WIN_ENABLE"}) {
    const bool disables = std::string(name) == "NCCL_P2P_DISABLE";
    set = {{name, disables ? "0" : "1"}};
    EXPECT_EQ(what_forbids_sharing(variable), "");
    set = {{name, disables ? "1" : "0"}};
    EXPECT_EQ(what_forbids_sharing(variable), std::string(name) + (disables ? "=1" : "=0"));
  }
  set = {{"NCCL_P2P_LEVEL", "LOC"}};
  EXPECT_EQ(what_forbids_sharing(variable), "NCCL_P2P_LEVEL=LOC");
  auto ranks = host_of("a", 2);
  ranks[1].forbidden = "NCCL_P2P_LEVEL=LOC";
  EXPECT_EQ(why_apart(ranks, 2), "NCCL_P2P_LEVEL=LOC on rank 1");
  EXPECT_EQ(why_apart(ranks, 1), "");
}

TEST(PeerReach, TextsComeBack) {
  for (const auto& reach :
       {RankReach{.host = "a", .uuid = "u", .reached = {"u", "v"}, .forbidden = "X=1"},
        RankReach{.host = "a",
        .uuid = "u",
        .reached = {"u"},
        .forbidden = "",
        .apart = {"v", "w"},
        .unseen = "no NVML"},
        RankReach{.host = "a", .uuid = "u", .reached = {}, .forbidden = ""}}) {
    const auto back = parse_reach(reach_text(reach));
    EXPECT_EQ(back.host, reach.host);
    EXPECT_EQ(back.uuid, reach.uuid);
    EXPECT_EQ(back.reached, reach.reached);
    EXPECT_EQ(back.forbidden, reach.forbidden);
    EXPECT_EQ(back.apart, reach.apart);
    EXPECT_EQ(back.unseen, reach.unseen);
  }
}

}  // namespace
}  // namespace dovetail
