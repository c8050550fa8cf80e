// Metrics of random timelines against counting every nanosecond.
#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/compare/metrics.hpp"

namespace dovetail {
namespace {

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

/// Counted by nanosecond: compute of a rank less its compute-only pass, both without their gaps,
/// and what ops near an exchange take longer.
std::int64_t unexplained_of(const StepProfile& profile, const RankProfile& rank) {
  RankProfile alone = rank;
  alone.ops = rank.ops_compute_only;
  alone.step = {0, 1000};
  std::int64_t gaps = 0;
  for (std::size_t i = 0; i < rank.ops.size(); ++i) {
    const auto gap = [&](const std::vector<Interval>& as_run, const std::vector<Interval>& other) {
      const bool counts = !profile.is_exchange[i] && as_run[i].start_ns >= 0;
      return counts ? as_run[i].end_ns - as_run[i].start_ns - held(other, as_run, i) : 0;
    };
    gaps += gap(rank.ops, rank.ops_full_gated) - gap(rank.ops_compute_only, rank.ops_gated);
  }
  const auto near = near_exchange_of(profile, rank);
  return by_nanosecond(profile, rank).compute_ns - by_nanosecond(profile, alone).compute_ns - gaps -
         near.first - near.second;
}

TEST(PolicyMetrics, TermsAddUpOnRandomTimelines) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<StepProfile> profiles;
    double slowest = 0;
    double waiting = 0;
    double unexplained = 0;
    for (int i = 0; i < 3; ++i) {
      profiles.push_back(random_profile(random));
      std::int64_t longest = 0;
      for (const RankProfile& rank : profiles.back().ranks) {
        longest = std::max(longest, rank.step.end_ns - rank.step.start_ns);
      }
      slowest += static_cast<double>(longest) / 3;
      for (const RankProfile& rank : profiles.back().ranks) {
        const RankMetrics counted = by_nanosecond(profiles.back(), rank);
        waiting +=
            static_cast<double>(longest - counted.step_ns + counted.exposed_waiting_ns) / (3 * 4);
        unexplained += static_cast<double>(unexplained_of(profiles.back(), rank)) / (3 * 4);
      }
    }
    const PolicyMetrics baseline = policy_metrics({random_profile(random)}, 0);
    const PolicyMetrics metrics = policy_metrics(profiles, 500, &baseline);
    ASSERT_NEAR(metrics.decomposition.profiled, slowest, 1e-9);
    const Decomposition& terms = metrics.decomposition;
    ASSERT_NEAR(terms.explained() + terms.unexplained, 500, 1e-9);
    ASSERT_NEAR(*terms.recording + terms.timed_vs_profiled, 500 - slowest, 1e-9);
    // What is left is what compute of the full pass differs by from the measured parts.
    ASSERT_NEAR(terms.unexplained, unexplained, 1e-9);
    ASSERT_NEAR(terms.exposed_waiting, waiting, 1e-9);
    ASSERT_NEAR(terms.compute + terms.split_tax, metrics.net_compute_ns, 1e-9);
    if (metrics.hidden_share.has_value()) {
      ASSERT_GE(*metrics.hidden_share, 0);
      ASSERT_LE(*metrics.hidden_share, 1);
    }
  }
}

}  // namespace
}  // namespace dovetail
