// Which GPU each rank takes: ranks that see all GPUs of their host, ranks that a launcher gave one
// each, and what does not go together.
#include "framework/run/assign_gpus.hpp"

#include <algorithm>
#include <functional>
#include <random>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

using Ordinals = std::vector<int>;

RankGpus on_host(const std::string& host, std::vector<std::string> uuids) {
  return {.host = host, .uuids = std::move(uuids), .slice = "", .why_none = ""};
}

TEST(AssignGpus, RanksThatSeeAllTakeThemInOrder) {
  const std::vector<std::string> all = {"a", "b", "c", "d"};
  const auto assignment = assign_gpus({on_host("h", all), on_host("h", all), on_host("h", all)});
  EXPECT_EQ(assignment.problem, "");
  EXPECT_EQ(assignment.ordinals, (Ordinals{0, 1, 2}));
}

TEST(AssignGpus, RanksThatSeeOneTakeTheirOwn) {
  const auto assignment = assign_gpus({on_host("h", {"b"}), on_host("h", {"a"})});
  EXPECT_EQ(assignment.problem, "");
  EXPECT_EQ(assignment.ordinals, (Ordinals{0, 0}));
}

TEST(AssignGpus, RanksThatSeeSomeTakeWhatIsFree) {
  const auto assignment =
      assign_gpus({on_host("h", {"a", "b"}), on_host("h", {"a", "b"}), on_host("h", {"b", "c"})});
  EXPECT_EQ(assignment.ordinals, (Ordinals{0, 1, 1}));
}

TEST(AssignGpus, HostsHaveTheirOwnGpus) {
  const auto assignment = assign_gpus({on_host("h", {"a"}), on_host("i", {"a"})});
  EXPECT_EQ(assignment.problem, "") << "equal names on two hosts are two cards";
  EXPECT_EQ(assignment.ordinals, (Ordinals{0, 0}));
}

TEST(AssignGpus, TwoRanksOnOneCardAreNamed) {
  const auto assignment =
      assign_gpus({on_host("h", {"a"}), on_host("i", {"a"}), on_host("h", {"a"})});
  EXPECT_TRUE(assignment.ordinals.empty());
  EXPECT_EQ(assignment.problem, "rank 2 on host h sees 1 GPU, which rank 0 holds");
}

TEST(AssignGpus, MoreRanksThanGpusNamesTheHolders) {
  const std::vector<std::string> both = {"a", "b"};
  const auto assignment = assign_gpus({on_host("h", both), on_host("h", both), on_host("h", both)});
  EXPECT_EQ(assignment.problem, "rank 2 on host h sees 2 GPUs, which ranks 0, 1 hold");
}

TEST(AssignGpus, ARankWithoutGpusIsNamed) {
  const auto assignment = assign_gpus({on_host("h", {"a"}), on_host("h", {})});
  EXPECT_EQ(assignment.problem, "rank 1 on host h sees no GPU");
}

TEST(AssignGpus, AnEarlierRankGivesWay) {
  const auto assignment =
      assign_gpus({on_host("h", {"a", "b", "c"}), on_host("h", {"a", "b"}), on_host("h", {"a"})});
  EXPECT_EQ(assignment.problem, "");
  EXPECT_EQ(assignment.ordinals, (Ordinals{2, 1, 0}));
}

TEST(AssignGpus, APartOfACardIsRefusedByName) {
  auto ranks = std::vector<RankGpus>(2, on_host("h", {"a", "b"}));
  ranks[1].slice = "NVIDIA H200 MIG 1g.18gb, 16 GiB, compute 9.0";
  EXPECT_EQ(assign_gpus(ranks).problem,
            "rank 1 on host h sees NVIDIA H200 MIG 1g.18gb, 16 GiB, compute 9.0, a part of a card "
            "(MIG), and NCCL joins whole cards only");
}

TEST(AssignGpus, WhyARankSeesNoneIsSaid) {
  auto blind = on_host("h", {});
  blind.why_none = why_no_gpu("-1", "CUDA says: no CUDA-capable device is detected");
  EXPECT_EQ(assign_gpus({on_host("h", {"a"}), blind}).problem,
            "rank 1 on host h sees no GPU (CUDA_VISIBLE_DEVICES is '-1'; CUDA says: no "
            "CUDA-capable device is detected)");
  EXPECT_EQ(why_no_gpu(nullptr, "no driver"), "no driver");
  EXPECT_EQ(why_no_gpu("", ""), "CUDA_VISIBLE_DEVICES is ''");
}

/// Whether all ranks can have a card, by trying everything.
bool can_all_have_one(const std::vector<RankGpus>& ranks,
                      std::size_t rank,
                      std::vector<std::string>& taken) {
  if (rank == ranks.size()) {
    return true;
  }
  for (const auto& uuid : ranks[rank].uuids) {
    const auto card = ranks[rank].host + uuid;
    if (std::find(taken.begin(), taken.end(), card) != taken.end()) {
      continue;
    }
    taken.push_back(card);
    if (can_all_have_one(ranks, rank + 1, taken)) {
      return true;
    }
    taken.pop_back();
  }
  return false;
}

TEST(AssignGpus, FindsAnAssignmentWhereverThereIsOne) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  int found = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<RankGpus> ranks;
    for (std::size_t rank = 0; rank < 1 + trial % 6U; ++rank) {
      std::vector<std::string> uuids = {"a", "b", "c", "d"};
      std::shuffle(uuids.begin(), uuids.end(), random);
      uuids.resize(1 + random() % 3);
      ranks.push_back(on_host(random() % 2 == 0 ? "h" : "i", uuids));
    }
    std::vector<std::string> taken;
    const bool possible = can_all_have_one(ranks, 0, taken);
    const auto assignment = assign_gpus(ranks);
    ASSERT_EQ(assignment.problem.empty(), possible) << assignment.problem;
    if (!possible) {
      ASSERT_TRUE(assignment.ordinals.empty());
      continue;
    }
    ++found;
    std::vector<std::string> cards;
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      cards.push_back(ranks[rank].host +
                      ranks[rank].uuids.at(static_cast<std::size_t>(assignment.ordinals[rank])));
    }
    std::sort(cards.begin(), cards.end());
    ASSERT_EQ(std::adjacent_find(cards.begin(), cards.end()), cards.end()) << "a card twice";
  }
  EXPECT_GT(found, 500);
  EXPECT_LT(found, 2000);
}

TEST(WhyOnCpu, IdleGpusAreNamedWithTheReason) {
  EXPECT_EQ(why_on_cpu({.needs_cpu = "", .problem = "rank 1 sees none", .any_visible = true}),
            "execution.device: auto takes the CPU, and GPUs stay idle: rank 1 sees none");
  EXPECT_EQ(why_on_cpu({.needs_cpu = "a link", .problem = "", .num_installed = 2}),
            "execution.device: auto takes the CPU, and GPUs stay idle: a link");
  EXPECT_EQ(why_on_cpu({.needs_cpu = "a link", .problem = "no GPU"}), std::nullopt)
      << "no GPU is idle where none is";
}

}  // namespace
}  // namespace dovetail
