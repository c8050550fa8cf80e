// When a run may end: on simulated step times. What it stops at still holds the truth.
#include "framework/compare/precision.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/compare/bootstrap.hpp"
#include "framework/compare/round_intervals.hpp"
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
  EXPECT_FALSE(error_of_iterations(Times(kLeastPreciseIterations - 1, 5)));
  EXPECT_EQ(error_of_iterations(Times(kLeastPreciseIterations, 5)), 0);
}

TEST_F(Precision, IsTheFartherEndOfTheInterval) {
  const Times rounds = {90, 95, 100, 105, 110, 100};
  const auto estimate = estimate_over_rounds(rounds).value();
  EXPECT_DOUBLE_EQ(error_of_rounds(rounds).value(),
                   (estimate.interval.high - estimate.value) / estimate.value);
  Times iterations(30, 100);
  iterations.resize(40, 150);
  const auto interval = median_interval(iterations).value();
  EXPECT_DOUBLE_EQ(error_of_iterations(iterations).value(), (interval.high - 100) / 100);
}

/// Of `runs` runs of up to `most` rounds: how many rounds they took, and in how many of 100 the
/// interval at the end holds the truth.
struct Outcome {
  double mean_rounds = 0;
  double held = 0;
};

TEST_F(Precision, EndsSoonerWhereTimesScatterLessAndTheIntervalStillHolds) {
  const auto run_all = [&](double noise, int most) {
    constexpr int runs = 4000;
    Outcome outcome;
    for (int i = 0; i < runs; ++i) {
      Times rounds;
      for (int round = 0; round < most; ++round) {
        rounds.push_back(draw(noise));
        const auto error = error_of_rounds(rounds);
        if (error && *error <= 0.02) {
          break;
        }
      }
      outcome.mean_rounds += static_cast<double>(rounds.size()) / runs;
      outcome.held += estimate_over_rounds(rounds)->interval.contains(100) ? 100.0 / runs : 0;
    }
    return outcome;
  };
  const auto quiet = run_all(0.005, kMostRoundsToEnd);
  const auto restless = run_all(0.03, kMostRoundsToEnd);
  const auto wild = run_all(0.3, kMostRoundsToEnd);
  EXPECT_LT(quiet.mean_rounds, 6.5);
  EXPECT_GT(restless.mean_rounds, 8);
  EXPECT_GT(wild.mean_rounds, kMostRoundsToEnd - 0.1) << "never precise enough";
  // 4000 draws of 90 % scatter by 0.5 %. Looking often costs a little of the 95 %.
  for (const auto& outcome : {quiet, restless, wild}) {
    EXPECT_GT(outcome.held, 90 - 5 * 0.5);
  }
}

TEST_F(Precision, OfIterationsEndsARunOfOneRound) {
  int ended = 0;
  int held = 0;
  constexpr int runs = 50;
  for (int i = 0; i < runs; ++i) {
    Times times;
    for (const int end : looks(200, 1, kLeastPreciseIterations)) {
      while (static_cast<int>(times.size()) < end) {
        times.push_back(draw(0.05));
      }
      if (error_of_iterations(times).value() <= 0.02) {
        break;
      }
    }
    ended += times.size() < 200 ? 1 : 0;
    held += median_interval(times)->contains(100) ? 1 : 0;
  }
  EXPECT_GT(ended, 45);
  EXPECT_GT(held, 30) << "of 50, of which 44 or more should";
}

}  // namespace
}  // namespace dovetail
