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
  baseline.ideal_ns = 62;
  const PolicyMetrics metrics = policy_metrics({hand_made()}, 105, &baseline);
  const Decomposition& terms = metrics.decomposition;
  EXPECT_EQ(terms.compute, 60);
  EXPECT_EQ(terms.split_tax, 11);
  EXPECT_EQ(terms.contention, 4) << "attention u1: 20 beside dispatch u0, 16 alone; experts: 0";
  EXPECT_EQ(terms.exposed_moving, 4);
  EXPECT_EQ(terms.exposed_waiting, 2);
  EXPECT_EQ(terms.hand_off, 2);
  EXPECT_EQ(terms.launch, 3);
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

/// Random times, also outside the step and with ops that did not run.
StepProfile random_profile(std::mt19937& random) {
  const auto point = [&random] { return static_cast<std::int64_t>(random() % 200); };
  const auto interval = [&]() -> Interval {
    const std::int64_t start = point();
    return random() % 6 == 0 ? kNotRun : Interval{start, start + point() / 4};
  };
  StepProfile profile;
  const std::size_t num_ops = 1 + random() % 12;
  for (std::size_t i = 0; i < num_ops; ++i) {
    profile.is_exchange.push_back(random() % 2 == 0);
  }
  for (int r = 0; r < 4; ++r) {
    RankProfile rank;
    rank.exchange_group = r / 2;
    rank.step = {10 + point() / 8, 100 + point() / 2};
    for (std::size_t i = 0; i < num_ops; ++i) {
      rank.ops.push_back(interval());
      rank.ops_compute_only.push_back(profile.is_exchange[i] ? kNotRun : interval());
      rank.ops_comm_only.push_back(profile.is_exchange[i] ? interval() : kNotRun);
      rank.ops_all_sms.push_back(profile.is_exchange[i] ? kNotRun : interval());
      rank.ops_gated.push_back(profile.is_exchange[i] ? kNotRun : interval());
      rank.ops_full_gated.push_back(interval());
      rank.enqueued_ns.push_back(random() % 5 == 0 ? -1 : point());
      rank.hand_off_wait_ns.push_back(random() % 5 == 0 ? -1 : point() / 8);
    }
    rank.unrecorded = {0, 90 + point() / 2};
    profile.ranks.push_back(rank);
  }
  return profile;
}

/// The obviously right version: gives each nanosecond to the first kind that applies.
RankMetrics by_nanosecond(const StepProfile& profile, const RankProfile& rank) {
  RankMetrics metrics;
  const auto in = [](const Interval& interval, std::int64_t t) {
    return interval.start_ns >= 0 && t >= interval.start_ns && t < interval.end_ns;
  };
  for (std::int64_t t = rank.step.start_ns; t < rank.step.end_ns; ++t) {
    bool compute = false;
    bool moving = false;
    bool waiting = false;
    bool hand_off = false;
    bool launch = false;
    for (std::size_t i = 0; i < rank.ops.size(); ++i) {
      std::int64_t last = -1;
      for (const RankProfile& peer : profile.ranks) {
        if (peer.exchange_group == rank.exchange_group) {
          last = std::max(last, peer.ops[i].start_ns);
        }
      }
      if (in(rank.ops[i], t)) {
        compute |= !profile.is_exchange[i];
        moving |= profile.is_exchange[i] && t >= last;
        waiting |= profile.is_exchange[i] && t < last;
      }
      const std::int64_t enqueued = rank.enqueued_ns[i];
      if (enqueued >= 0) {
        hand_off |= t < enqueued && t >= enqueued - rank.hand_off_wait_ns[i];
        launch |= rank.ops[i].start_ns >= 0 && t >= enqueued && t < rank.ops[i].start_ns;
      }
    }
    ++metrics.step_ns;
    metrics.compute_ns += compute;
    metrics.moving_ns += moving;
    metrics.waiting_ns += waiting && !moving;
    metrics.hidden_ns += moving && compute;
    metrics.exposed_moving_ns += moving && !compute;
    metrics.exposed_waiting_ns += waiting && !moving && !compute;
    const bool idle = !compute && !moving && !waiting;
    metrics.hand_off_ns += idle && hand_off;
    metrics.launch_ns += idle && !hand_off && launch;
    metrics.other_idle_ns += idle && !hand_off && !launch;
  }
  return metrics;
}

/// As it was held back, else as it ran.
std::int64_t held(const std::vector<Interval>& held,
                  const std::vector<Interval>& ops,
                  std::size_t i) {
  const bool was_held = held[i].start_ns >= 0 && held[i].end_ns >= 0;
  const Interval& op = was_held ? held[i] : ops[i];
  return op.end_ns - op.start_ns;
}

/// What ops take longer than alone: `first` beside which any exchange op of the rank runs, `second`
/// others, of which any exchange has ended behind the start of each compute op before them.
std::pair<std::int64_t, std::int64_t> near_exchange_of(const StepProfile& profile,
                                                       const RankProfile& rank) {
  const auto has_run = [](const Interval& op) { return op.start_ns >= 0 && op.end_ns >= 0; };
  const auto earlier = [&](std::size_t one, std::size_t other) {
    return std::pair(rank.ops[one].start_ns, one) < std::pair(rank.ops[other].start_ns, other);
  };
  std::pair<std::int64_t, std::int64_t> longer = {0, 0};
  for (std::size_t i = 0; i < rank.ops.size(); ++i) {
    const auto& op = rank.ops[i];
    if (profile.is_exchange[i] || !has_run(op) || !has_run(rank.ops_compute_only[i])) {
      continue;
    }
    bool is_beside = false;
    bool is_after = false;
    for (std::size_t j = 0; j < rank.ops.size(); ++j) {
      const auto& other = rank.ops[j];
      if (!profile.is_exchange[j] || !has_run(other)) {
        continue;
      }
      is_beside |= std::min(op.end_ns, other.end_ns) > std::max(op.start_ns, other.start_ns);
      bool ended_since = other.end_ns <= op.start_ns;
      for (std::size_t k = 0; k < rank.ops.size(); ++k) {
        if (!profile.is_exchange[k] && has_run(rank.ops[k]) && earlier(k, i)) {
          ended_since &= other.end_ns > rank.ops[k].start_ns;
        }
      }
      is_after |= ended_since;
    }
    const auto ns =
        held(rank.ops_full_gated, rank.ops, i) - held(rank.ops_gated, rank.ops_compute_only, i);
    longer.first += is_beside ? ns : 0;
    longer.second += !is_beside && is_after ? ns : 0;
  }
  return longer;
}

TEST(RankMetrics, AgreeWithCountingEveryNanosecondOnRandomTimelines) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 400; ++round) {
    const StepProfile profile = random_profile(random);
    const auto all = rank_metrics(profile);
    for (std::size_t r = 0; r < all.size(); ++r) {
      const RankMetrics& got = all[r];
      const RankMetrics want = by_nanosecond(profile, profile.ranks[r]);
      ASSERT_EQ(got.step_ns, want.step_ns);
      ASSERT_EQ(got.compute_ns, want.compute_ns);
      ASSERT_EQ(got.moving_ns, want.moving_ns);
      ASSERT_EQ(got.waiting_ns, want.waiting_ns);
      ASSERT_EQ(got.hidden_ns, want.hidden_ns);
      ASSERT_EQ(got.exposed_moving_ns, want.exposed_moving_ns);
      ASSERT_EQ(got.exposed_waiting_ns, want.exposed_waiting_ns);
      ASSERT_EQ(got.hand_off_ns, want.hand_off_ns);
      ASSERT_EQ(got.launch_ns, want.launch_ns);
      ASSERT_EQ(got.other_idle_ns, want.other_idle_ns);
      ASSERT_EQ(std::pair(got.contention_ns, got.after_exchange_ns),
                near_exchange_of(profile, profile.ranks[r]));
      ASSERT_EQ(got.step_ns,
                got.compute_ns + got.exposed_moving_ns + got.exposed_waiting_ns + got.hand_off_ns +
                    got.launch_ns + got.other_idle_ns);
    }
  }
}

/// Counted by nanosecond: compute of the slowest rank less its compute-only pass, both without
/// their gaps, and what ops near an exchange take longer.
double unexplained_of(const std::vector<StepProfile>& profiles) {
  double sum = 0;
  for (const StepProfile& profile : profiles) {
    std::size_t slowest = 0;
    for (std::size_t r = 0; r < profile.ranks.size(); ++r) {
      const auto took = [&](std::size_t i) {
        return profile.ranks[i].step.end_ns - profile.ranks[i].step.start_ns;
      };
      slowest = took(r) > took(slowest) ? r : slowest;
    }
    const RankProfile& rank = profile.ranks[slowest];
    RankProfile alone = rank;
    alone.ops = rank.ops_compute_only;
    alone.step = {0, 1000};
    std::int64_t gaps = 0;
    for (std::size_t i = 0; i < rank.ops.size(); ++i) {
      const auto gap = [&](const std::vector<Interval>& as_run,
                           const std::vector<Interval>& other) {
        const bool counts = !profile.is_exchange[i] && as_run[i].start_ns >= 0;
        return counts ? as_run[i].end_ns - as_run[i].start_ns - held(other, as_run, i) : 0;
      };
      gaps += gap(rank.ops, rank.ops_full_gated) - gap(rank.ops_compute_only, rank.ops_gated);
    }
    const auto near = near_exchange_of(profile, rank);
    sum += static_cast<double>(by_nanosecond(profile, rank).compute_ns -
                               by_nanosecond(profile, alone).compute_ns - gaps - near.first -
                               near.second);
  }
  return sum / static_cast<double>(profiles.size());
}

TEST(PolicyMetrics, TermsAddUpOnRandomTimelines) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<StepProfile> profiles;
    double slowest = 0;
    for (int i = 0; i < 3; ++i) {
      profiles.push_back(random_profile(random));
      std::int64_t longest = 0;
      for (const RankProfile& rank : profiles.back().ranks) {
        longest = std::max(longest, rank.step.end_ns - rank.step.start_ns);
      }
      slowest += static_cast<double>(longest) / 3;
    }
    const PolicyMetrics baseline = policy_metrics({random_profile(random)}, 0);
    const PolicyMetrics metrics = policy_metrics(profiles, 500, &baseline);
    ASSERT_NEAR(metrics.decomposition.profiled, slowest, 1e-9);
    const Decomposition& terms = metrics.decomposition;
    ASSERT_NEAR(terms.explained() + terms.unexplained, 500, 1e-9);
    ASSERT_NEAR(*terms.recording + terms.timed_vs_profiled, 500 - slowest, 1e-9);
    // What is left is what compute of the full pass differs by from the measured parts.
    ASSERT_NEAR(terms.unexplained, unexplained_of(profiles), 1e-9);
    if (metrics.hidden_share.has_value()) {
      ASSERT_GE(*metrics.hidden_share, 0);
      ASSERT_LE(*metrics.hidden_share, 1);
    }
  }
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

TEST(StepStatistics, TakesTheSlowestRankOfEachStepAndMarksUnfinishedOnes) {
  const auto times = slowest_ranks({{10, 50, 30, 40}, {20, 20, -1, 35}});
  ASSERT_EQ(times.size(), 4U);
  EXPECT_EQ(times[1], 50);
  EXPECT_TRUE(std::isnan(times[2]));
  EXPECT_EQ(times[3], 40);
  EXPECT_TRUE(slowest_ranks({}).empty());
  EXPECT_TRUE(std::isnan(slowest_ranks({{-1}, {4}})[0]));
  EXPECT_THROW(slowest_ranks({{1}, {1, 2}}), ContractError);
}

TEST(StepStatistics, AnIterationIsItsMeanStep) {
  const auto means = mean_steps({10, 30, 20, std::nan("")}, 2);
  ASSERT_EQ(means.size(), 2U);
  EXPECT_EQ(means[0], 20);
  EXPECT_TRUE(std::isnan(means[1]));
  EXPECT_THROW(mean_steps({1, 2, 3}, 2), ContractError);
  EXPECT_TRUE(mean_steps({}, 0).empty());
}

TEST(Statistics, AreNumpysPercentiles) {
  std::vector<double> sample;
  for (int i = 100; i >= 1; --i) {
    sample.push_back(i);
  }
  const Statistics result = statistics(sample);
  EXPECT_DOUBLE_EQ(result.p50, 50.5);
  EXPECT_DOUBLE_EQ(result.p95.value(), 95.05);
  EXPECT_DOUBLE_EQ(result.p99.value(), 99.01);
  const Statistics three = statistics({20, 50, 40});
  EXPECT_EQ(three.count, 3);
  EXPECT_EQ(three.min, 20);
  EXPECT_EQ(three.p50, 40);
  EXPECT_EQ(three.max, 50);
  EXPECT_DOUBLE_EQ(three.mean, 110.0 / 3);
}

TEST(Imbalance, IsMaxOverMean) {
  EXPECT_DOUBLE_EQ(imbalance({1, 1, 4}), 2);
  EXPECT_DOUBLE_EQ(imbalance({5, 5}), 1);
  EXPECT_DOUBLE_EQ(imbalance({}), 1);
  EXPECT_DOUBLE_EQ(imbalance({0, 0}), 1);
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{1, 1, 4}}), imbalance({1, 1, 4}));
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{3, 1}, {1, 3}}), 1.5) << "summed first: 1";
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{3, 1}, {0, 0}, {1, 3}}), 1.5);
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{30, 10}, {2, 2}}), 32.0 / 22)
      << "large layers weigh more";
  EXPECT_DOUBLE_EQ(imbalance_over_layers({}), 1);
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{}, {0, 0}}), 1);
}

}  // namespace
}  // namespace dovetail
