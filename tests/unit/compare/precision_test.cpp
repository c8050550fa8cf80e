// When a run may end: on simulated step times. What it stops at still holds the truth.
#include "framework/compare/precision.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/compare/round_intervals.hpp"
#include "framework/compare/statistics.hpp"
#include "framework/config/execution_config.hpp"
#include "framework/plan/rounds.hpp"

namespace dovetail {
namespace {

using Times = std::vector<double>;

class Precision : public ::testing::Test {
 protected:
  /// A time around 100 with that standard deviation of its logarithm.
  double draw(double noise) { return 100 * std::exp(noise * normal_(random_)); }

  const unsigned seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  std::normal_distribution<double> normal_;
};

TEST_F(Precision, TakesEnoughSamples) {
  EXPECT_FALSE(error_of_rounds(Times(kLeastPreciseRounds - 1, 5)));
  EXPECT_EQ(error_of_rounds(Times(kLeastPreciseRounds, 5)), 0);
}

TEST_F(Precision, IsTheFartherEndOfTheInterval) {
  const Times rounds = {90, 95, 100, 105, 110, 100};
  const auto estimate = estimate_over_rounds(rounds).value();
  EXPECT_DOUBLE_EQ(error_of_rounds(rounds).value(),
                   (estimate.interval.high - estimate.value) / estimate.value);
}

/// Of so many runs with a chance of `truth` each, how many in 100 to expect at least: five standard
/// deviations of the binomial below.
constexpr int kRuns = 4000;

double least_of_100(double truth) {
  return 100 * (truth - 5 * std::sqrt(truth * (1 - truth) / kRuns));
}

/// How many rounds runs took, and in how many of 100 the interval at the end holds the truth.
struct Outcome {
  double mean_rounds = 0;
  double held = 0;
};

/// What `next_round` gives until `rounds` are precise enough; at most `most`.
template <class NextRound>
Times run_until(double precision, int most, NextRound next_round) {
  Times rounds;
  for (int round = 0; round < most; ++round) {
    rounds.push_back(next_round());
    const auto error = error_of_rounds(rounds);
    if (error && *error <= precision) {
      break;
    }
  }
  return rounds;
}

TEST_F(Precision, EndsSoonerWhereTimesScatterLessAndTheIntervalStillHolds) {
  const auto run_all = [&](double noise, int most) {
    Outcome outcome;
    for (int i = 0; i < kRuns; ++i) {
      const auto rounds = run_until(0.02, most, [&] { return draw(noise); });
      outcome.mean_rounds += static_cast<double>(rounds.size()) / kRuns;
      outcome.held += estimate_over_rounds(rounds)->interval.contains(100) ? 100.0 / kRuns : 0;
    }
    return outcome;
  };
  const auto quiet = run_all(0.005, kMostRoundsToEnd);
  const auto restless = run_all(0.03, kMostRoundsToEnd);
  const auto wild = run_all(0.3, kMostRoundsToEnd);
  EXPECT_LT(quiet.mean_rounds, 6.5);
  EXPECT_GT(restless.mean_rounds, 8);
  EXPECT_GT(wild.mean_rounds, kMostRoundsToEnd - 0.1) << "never precise enough";
  // Looking often costs a little of the 95 %.
  for (const auto& outcome : {quiet, restless, wild}) {
    EXPECT_GT(outcome.held, least_of_100(0.9));
  }
}

/// Iterations that remember each other over ten of them, as clocks and neighbours on a host make
/// them: the rounds of a policy resemble each other a little, so that its step time is less sure
/// than the interval says. What two policies of a round have in common falls out of their speed-up.
TEST_F(Precision, HoldsWhereIterationsRememberEachOther) {
  constexpr double kMemory = 0.9;
  constexpr int kIterations = 5;
  constexpr int kPolicies = 4;
  Outcome times;
  Outcome speed_ups;
  for (int i = 0; i < kRuns; ++i) {
    double state = 0.02 / std::sqrt(1 - kMemory * kMemory) * normal_(random_);
    Times slow;
    Times fast;
    const auto part = [&] {
      Times iterations;
      for (int iteration = 0; iteration < kIterations; ++iteration) {
        state = kMemory * state + 0.02 * normal_(random_);
        iterations.push_back(100 * std::exp(state));
      }
      return statistics(std::move(iterations)).p50;
    };
    int round = 0;
    const auto next_round = [&] {
      Times parts;
      for (int policy = 0; policy < kPolicies; ++policy) {
        parts.push_back(part());
      }
      const auto order = round_order(static_cast<std::uint64_t>(i), round++, kPolicies);
      const auto place = [&](std::size_t policy) {
        return std::find(order.begin(), order.end(), policy) - order.begin();
      };
      fast.push_back(parts.at(static_cast<std::size_t>(place(0))));
      slow.push_back(1.25 * parts.at(static_cast<std::size_t>(place(1))));
      return slow.back() / 1.25;
    };
    const auto rounds = run_until(0.03, kMostRoundsToEnd, next_round);
    times.mean_rounds += static_cast<double>(rounds.size()) / kRuns;
    times.held += estimate_over_rounds(rounds)->interval.contains(100) ? 100.0 / kRuns : 0;
    speed_ups.held += paired_ratio(slow, fast)->interval.contains(1.25) ? 100.0 / kRuns : 0;
  }
  EXPECT_GT(times.mean_rounds, 6.5) << "the rule has something to decide";
  EXPECT_LT(times.mean_rounds, kMostRoundsToEnd - 1);
  EXPECT_GT(times.held, least_of_100(0.86));
  EXPECT_GT(speed_ups.held, least_of_100(0.92));
}

}  // namespace
}  // namespace dovetail
