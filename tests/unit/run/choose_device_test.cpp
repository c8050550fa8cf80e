// Which GPU each rank takes: ranks that see all GPUs of their host, ranks that a launcher gave one
// each, and what does not go together.
#include "framework/run/choose_device.hpp"

#include <gtest/gtest.h>

#include "framework/config/load.hpp"

namespace dovetail {
namespace {

using Ordinals = std::vector<int>;

RankGpus on_host(const std::string& host, std::vector<std::string> uuids) {
  return {host, std::move(uuids)};
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

TEST(NeedsCpu, ALinkOrFloat16OfAnyPolicy) {
  const auto with = [](const std::string& policy) {
    return parse_experiment(
               "experiment: e\nmodel: {architecture: m, config: c.json}\n"
               "workload: {requests: {count: 1, length: 1}}\n"
               "policies: [{name: sequential}, {name: other, schedule: sequential" +
                   policy + "}]\n",
               "e.yaml")
        .experiment;
  };
  EXPECT_FALSE(needs_cpu(with("")));
  EXPECT_TRUE(needs_cpu(with(", link: {latency_us: 1, gbytes_per_s: 1}")));
  EXPECT_TRUE(needs_cpu(with(", dtype: float16")));
  EXPECT_FALSE(needs_cpu(with(", numerics: batch_invariant")));
}

}  // namespace
}  // namespace dovetail
