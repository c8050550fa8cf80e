#include "framework/compare/metrics.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/unit/compare/hand_made_profile.hpp"

namespace dovetail {
namespace {

TEST(RankMetrics, AreThoseCountedByHand) {
  const RankMetrics rank = rank_metrics(hand_made()).at(0);
  EXPECT_EQ(rank.step_ns, 100);
  EXPECT_EQ(rank.compute_ns, 18 + 20 + 40);
  EXPECT_EQ(rank.waiting_ns, 8) << "from 22 until rank 1 came at 30";
  EXPECT_EQ(rank.moving_ns, 10 + 14);
  EXPECT_EQ(rank.comm_ns, 32);
  EXPECT_EQ(rank.hidden_ns, 10 + 10);
  EXPECT_EQ(rank.exposed_moving_ns, 4) << "46 to 50";
  EXPECT_EQ(rank.exposed_waiting_ns, 2) << "22 to 24";
  EXPECT_EQ(rank.hand_off_ns, 2) << "20 to 21, 44 to 45";
  EXPECT_EQ(rank.launch_ns, 3) << "1 to 2, 21 to 22, 45 to 46";
  EXPECT_EQ(rank.other_idle_ns, 11) << "0 to 1, 90 to 100";
  EXPECT_EQ(rank.compute_only_ns, 71);
  EXPECT_EQ(rank.comm_only_moving_ns, 20);
  EXPECT_EQ(rank.comm_only_waiting_ns, 4);
  EXPECT_EQ(rank.overlapped_compute_ns, 20)
      << "attention u1; experts u0 is beside comm too shortly";
  EXPECT_EQ(rank.overlapped_compute_alone_ns, 16);
  EXPECT_EQ(rank.overlapped_moving_ns, 24);
  EXPECT_EQ(rank.overlapped_moving_alone_ns, 20);
}

/// Rank 1 came at 30, give or take 3 + 2: rank 0 waited from 22 until 25 to 35, of which 22 to 24
/// was exposed. At the second dispatch, to which both came at 46, it may have waited until 51.
TEST(RankMetrics, WaitingIsKnownAsWellAsTheClocksAre) {
  auto profile = hand_made();
  EXPECT_EQ(rank_metrics(profile).at(0).least_waiting_ns, 8) << "clocks without an error";
  EXPECT_EQ(rank_metrics(profile).at(0).most_waiting_ns, 8);
  profile.ranks[0].clock_error_ns = 2;
  profile.ranks[1].clock_error_ns = 3;
  const RankMetrics rank = rank_metrics(profile).at(0);
  EXPECT_EQ(rank.waiting_ns, 8) << "as the clocks say";
  EXPECT_EQ(rank.least_waiting_ns, 3);
  EXPECT_EQ(rank.most_waiting_ns, 13 + 5);
  EXPECT_EQ(rank.least_exposed_waiting_ns, 2);
  EXPECT_EQ(rank.most_exposed_waiting_ns, 2 + 4) << "experts run from 50 on";
  const RankMetrics other = rank_metrics(profile).at(1);
  EXPECT_EQ(other.waiting_ns, 0) << "it came last";
  EXPECT_EQ(other.least_waiting_ns, 0);
  EXPECT_EQ(other.most_waiting_ns, 5) << "at the second dispatch";
}

/// The most and the least are those that any clocks within the bounds give.
TEST(RankMetrics, BoundsOfWaitingHoldForAllClocksWithinTheirErrors) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  auto profile = hand_made();
  profile.ranks.push_back(profile.ranks[1]);
  profile.ranks[2].ops[1] = {27, 43};
  for (std::size_t i = 0; i < 3; ++i) {
    profile.ranks[i].clock_error_ns = static_cast<std::int64_t>(i) * 4;
  }
  const auto bounds = rank_metrics(profile);
  for (int draw = 0; draw < 2000; ++draw) {
    auto other = profile;
    for (auto& rank : other.ranks) {
      const auto error = rank.clock_error_ns;
      const auto shift = std::uniform_int_distribution<std::int64_t>(-error, error)(random);
      const auto move = [&](Interval& one) {
        if (one.start_ns >= 0) {
          one = {one.start_ns + 1000 + shift, one.end_ns + 1000 + shift};
        }
      };
      move(rank.step);
      std::for_each(rank.ops.begin(), rank.ops.end(), move);
    }
    const auto moved = rank_metrics(other);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_GE(moved[i].waiting_ns, bounds[i].least_waiting_ns);
      EXPECT_LE(moved[i].waiting_ns, bounds[i].most_waiting_ns);
      EXPECT_GE(moved[i].exposed_waiting_ns, bounds[i].least_exposed_waiting_ns);
      EXPECT_LE(moved[i].exposed_waiting_ns, bounds[i].most_exposed_waiting_ns);
      EXPECT_EQ(moved[i].comm_ns, bounds[i].comm_ns) << "moving has the rest";
    }
  }
}

TEST(PolicyMetrics, TermsAddUpToTheMeasuredStep) {
  PolicyMetrics baseline;
  baseline.mean_of_rank.resize(2);
  baseline.mean_of_rank[0] = {.compute_only_ns = 60, .comm_only_moving_ns = 16};
  baseline.mean_of_rank[1] = baseline.mean_of_rank[0];
  baseline.net_compute_ns = 60;
  baseline.ideal_ns = 62;
  const PolicyMetrics metrics = policy_metrics({hand_made()}, 105, &baseline);
  const Decomposition& terms = metrics.decomposition;
  EXPECT_EQ(terms.compute, 60);
  EXPECT_EQ(terms.split_tax, 11);
  EXPECT_EQ(terms.contention, 4) << "attention u1: 20 beside dispatch u0, 16 alone; experts: 0";
  EXPECT_EQ(terms.exposed_moving, 4);
  EXPECT_EQ(terms.exposed_waiting, 1) << "2 on the first rank, none on the second";
  EXPECT_EQ(terms.hand_off, 2.5);
  EXPECT_EQ(terms.launch, 3.5);
  EXPECT_EQ(terms.other_idle, 11);
  EXPECT_EQ(terms.profiled, 100);
  EXPECT_EQ(terms.sms_left_out, 0) << "no such pass was run";
  EXPECT_EQ(terms.launch_gaps, 0);
  EXPECT_FALSE(terms.recording.has_value()) << "no step was run beside the profiled one";
  EXPECT_EQ(terms.timed_vs_profiled, 5) << "with what recording adds";
  EXPECT_EQ(terms.unexplained, 3) << "nothing runs beside attention u0, which took 18, and 15";
  EXPECT_EQ(terms.measured, 105);
  EXPECT_EQ(metrics.ideal_ns, 62) << "the baseline's, for all policies";
  EXPECT_DOUBLE_EQ(*metrics.split_tax_factor, 71.0 / 60);
  EXPECT_DOUBLE_EQ(*metrics.comm_split_factor, 40.0 / 32) << "both ranks move for 20 and for 16";
  EXPECT_EQ(metrics.hand_off_wait_ns.count, 8);
}

TEST(PolicyMetrics, WithoutABaselineOfTheSameGridThereIsNoSplitTax) {
  PolicyMetrics other_grid;
  other_grid.mean_of_rank.resize(4);
  for (const PolicyMetrics* baseline : {static_cast<const PolicyMetrics*>(nullptr),
                                        static_cast<const PolicyMetrics*>(&other_grid)}) {
    const PolicyMetrics metrics = policy_metrics({hand_made()}, 100, baseline);
    EXPECT_EQ(metrics.decomposition.compute, 71);
    EXPECT_EQ(metrics.decomposition.split_tax, 0);
    EXPECT_EQ(metrics.decomposition.unexplained, 3) << "of attention u0";
    EXPECT_FALSE(metrics.split_tax_factor.has_value());
  }
}

TEST(PolicyMetrics, ABaselineAgainstItselfHasNoSplitTax) {
  const PolicyMetrics itself = policy_metrics({hand_made()}, 100);
  const PolicyMetrics metrics = policy_metrics({hand_made()}, 100, &itself);
  EXPECT_EQ(metrics.decomposition.split_tax, 0);
  EXPECT_EQ(*metrics.split_tax_factor, 1);
}

/// Ranks of uneven load end a step together, and either may be the last by chance.
TEST(PolicyMetrics, WhichRankIsTheSlowestIsNoTerm) {
  StepProfile whole = hand_made();
  whole.ranks[1].ops_compute_only[4].end_ns += 10;  // more to compute, before and after the cut
  const PolicyMetrics baseline = policy_metrics({whole}, 100);
  StepProfile cut = whole;
  cut.ranks[0].ops_compute_only[4].end_ns += 20;  // the cut costs this rank more
  std::vector<PolicyMetrics> found;
  for (const std::size_t last : {0, 1}) {
    StepProfile profile = cut;
    profile.ranks[last].step.end_ns += 2;
    found.push_back(policy_metrics({profile}, 102, &baseline));
    const Decomposition& terms = found.back().decomposition;
    EXPECT_EQ(terms.profiled, 102) << "of the slowest rank";
    EXPECT_EQ(terms.compute, (71 + 81) / 2);
    EXPECT_EQ(terms.split_tax, 20.0 / 2);
    EXPECT_EQ(terms.exposed_waiting, 1 + 1)
        << "half of the 2 by which the other rank is done sooner";
    EXPECT_EQ(terms.explained() + terms.unexplained, 102);
  }
  EXPECT_EQ(found[0].net_compute_ns, found[1].net_compute_ns);
}

/// attention u0, dispatch u0 beside attention u1, experts u0, combine with nothing beside it.
/// `late`: what rank 1 spends more in its first op; `catch_up`: what it spends less in the third.
StepProfile with_late_rank(std::int64_t late, std::int64_t catch_up) {
  StepProfile profile;
  profile.is_exchange = {false, true, false, false, true};
  const std::int64_t start0 = 100'000;
  const std::int64_t start1 = start0 + late;
  const auto add_rank = [&](std::int64_t start, std::int64_t attention1) {
    RankProfile rank;
    const std::int64_t arrival = std::max(start0, start1) + 80'000;
    const std::int64_t end1 = start + attention1;
    const std::int64_t experts = std::max(arrival, end1);
    rank.ops = {{0, start}, {start, arrival}, {start, end1}, {experts, experts + 60'000}, {0, 0}};
    profile.ranks.push_back(rank);
  };
  add_rank(start0, 2'000'000);
  add_rank(start1, 2'000'000 - catch_up);
  std::int64_t combine = 0;
  for (const RankProfile& rank : profile.ranks) {
    combine = std::max(combine, rank.ops[3].end_ns);
  }
  for (RankProfile& rank : profile.ranks) {
    rank.ops[4] = {rank.ops[3].end_ns, combine + 80'000};
    rank.step = {0, rank.ops[4].end_ns};
    rank.ops_compute_only = rank.ops;
    rank.ops_comm_only = rank.ops;
    rank.enqueued_ns.assign(5, -1);
    rank.hand_off_wait_ns.assign(5, -1);
  }
  return profile;
}

TEST(PolicyMetrics, ALateRankRaisesWaitingNotTheHiddenShare) {
  const PolicyMetrics even = policy_metrics({with_late_rank(0, 0)}, 0);
  EXPECT_EQ(even.waiting_ns, 0);
  EXPECT_DOUBLE_EQ(*even.hidden_share, 0.5) << "dispatch is hidden, combine is not";
  EXPECT_DOUBLE_EQ(*even.hidden_share_with_waiting, 0.5);

  // 1 ms late at the dispatch, in time again at the combine.
  const PolicyMetrics late = policy_metrics({with_late_rank(1'000'000, 1'000'000)}, 0);
  EXPECT_DOUBLE_EQ(late.waiting_ns, 500'000) << "mean of two ranks: one waits for 1 ms";
  EXPECT_DOUBLE_EQ(*late.hidden_share, 0.5);
  EXPECT_EQ(late.moving_ns, even.moving_ns);
  EXPECT_GT(*late.hidden_share_with_waiting, 0.8) << "the usual ratio takes waiting for overlap";

  // Late to the end: the other rank waits twice, and exposed.
  const PolicyMetrics stays_late = policy_metrics({with_late_rank(1'000'000, 0)}, 0);
  EXPECT_DOUBLE_EQ(stays_late.waiting_ns, 1'000'000);
  EXPECT_DOUBLE_EQ(*stays_late.hidden_share, 0.5);
}

TEST(RankMetrics, RanksOfOtherGroupsAreNotWaitedFor) {
  StepProfile profile = hand_made();
  profile.ranks[1].exchange_group = 1;
  for (const RankMetrics& rank : rank_metrics(profile)) {
    EXPECT_EQ(rank.waiting_ns, 0);
  }
}

TEST(RankMetrics, SequentialExchangeIsAllExposed) {
  StepProfile profile;
  profile.is_exchange = {false, true, false};
  RankProfile rank;
  rank.step = {0, 30};
  rank.ops = {{0, 10}, {10, 20}, {20, 30}};
  rank.ops_compute_only = {{0, 10}, kNotRun, {10, 20}};
  rank.ops_comm_only = {kNotRun, {0, 10}, kNotRun};
  rank.enqueued_ns = {0, 10, 20};
  rank.hand_off_wait_ns = {0, 0, 0};
  profile.ranks = {rank};
  const PolicyMetrics metrics = policy_metrics({profile}, 30);
  EXPECT_EQ(*metrics.hidden_share, 0);
  EXPECT_EQ(metrics.decomposition.exposed_moving, 10);
  EXPECT_EQ(metrics.decomposition.compute, 20);
  EXPECT_EQ(metrics.decomposition.unexplained, 0);
  EXPECT_FALSE(metrics.contention_factor.has_value()) << "nothing ran beside anything";
}

TEST(RankMetrics, RefusesTablesOfOtherLength) {
  StepProfile profile = hand_made();
  profile.ranks[1].ops.pop_back();
  EXPECT_THROW(rank_metrics(profile), ContractError);
  profile = hand_made();
  profile.ranks[0].step = kNotRun;
  EXPECT_THROW(rank_metrics(profile), ContractError);
  EXPECT_THROW(policy_metrics({}, 1), ContractError);
}

}  // namespace
}  // namespace dovetail
