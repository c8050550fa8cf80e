// Drift is found where it is, and seldom where it is not: on simulated series.
#include "framework/compare/drift.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

using Times = std::vector<double>;
using Rounds = std::vector<std::int64_t>;

struct Series {
  int iterations = 50;
  int rounds = 1;
  double noise = 0.05;      ///< of an iteration, of the logarithm
  double alike = 0;         ///< how much of it stays until the next one
  double round_noise = 0;   ///< of a round
  double run_change = 0;    ///< over the run
  double round_change = 0;  ///< within each round
};

Rounds rounds_of(const Series& series) {
  Rounds rounds;
  for (int i = 0; i < series.iterations; ++i) {
    rounds.push_back(static_cast<std::int64_t>(i) * series.rounds / series.iterations);
  }
  return rounds;
}

Times draw(const Series& series, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const auto rounds = rounds_of(series);
  const double length = static_cast<double>(series.iterations) / series.rounds;
  Times times;
  double noise = normal(random) * series.noise;
  double of_round = normal(random) * series.round_noise;
  double first = 0;
  for (int i = 0; i < series.iterations; ++i) {
    if (i > 0 && rounds[static_cast<std::size_t>(i)] != rounds[static_cast<std::size_t>(i) - 1]) {
      of_round = normal(random) * series.round_noise;
      first = i;
    }
    noise = series.alike * noise +
            std::sqrt(1 - series.alike * series.alike) * series.noise * normal(random);
    times.push_back(1e6 * std::exp(noise + of_round +
                                   std::log1p(series.run_change) * i / (series.iterations - 1) +
                                   std::log1p(series.round_change) * (i - first) / (length - 1)));
  }
  return times;
}

/// Of this process; printed where a test fails.
unsigned seed() {
  static const unsigned seed = std::random_device{}();
  return seed;
}

enum class Over { run, rounds };

/// How many of 100 such series are flagged.
double flagged(const Series& series, Over over, int runs = 2000) {
  std::mt19937_64 random(seed());
  const auto rounds = rounds_of(series);
  int count = 0;
  for (int i = 0; i < runs; ++i) {
    const auto times = draw(series, random);
    const auto drift = over == Over::run ? run_drift(times, rounds) : round_drift(times, rounds);
    count += drift && drift->matters() ? 1 : 0;
  }
  return 100.0 * count / runs;
}

/// 2000 draws of a share of 5 % scatter by 0.5 %; a bound six times that away fails once in 10^9.
constexpr double kMostFalse = 5 + 6 * 0.5;

TEST(Drift, OfSteadySeriesIsSeldomFlagged) {
  SCOPED_TRACE("seed " + std::to_string(seed()));
  for (const double alike : {0.0, 0.5, 0.8}) {
    EXPECT_LT(flagged({.iterations = 10, .alike = alike / 2}, Over::run), kMostFalse);
    EXPECT_LT(flagged({.iterations = 50, .alike = alike}, Over::run), kMostFalse) << alike;
    EXPECT_LT(flagged({.iterations = 200, .alike = alike}, Over::run), kMostFalse) << alike;
  }
  EXPECT_LT(flagged({.iterations = 50, .rounds = 5, .round_noise = 0.1}, Over::run), kMostFalse);
  EXPECT_LT(flagged({.iterations = 10, .rounds = 5, .round_noise = 0.1}, Over::run), kMostFalse);
  EXPECT_LT(flagged({.iterations = 50, .rounds = 5, .round_noise = 0.1}, Over::rounds), kMostFalse);
  EXPECT_LT(flagged({.iterations = 50, .rounds = 5, .alike = 0.5}, Over::rounds), kMostFalse);
}

TEST(Drift, IsFound) {
  SCOPED_TRACE("seed " + std::to_string(seed()));
  EXPECT_GT(flagged({.iterations = 50, .noise = 0.02, .run_change = 0.1}, Over::run), 85);
  EXPECT_GT(flagged({.iterations = 50, .noise = 0.02, .run_change = -0.1}, Over::run), 85);
  EXPECT_GT(flagged({.iterations = 50, .rounds = 5, .noise = 0.02, .run_change = 0.15}, Over::run),
            85);
  EXPECT_GT(
      flagged(
          {.iterations = 50, .rounds = 5, .noise = 0.02, .round_noise = 0.1, .round_change = 0.05},
          Over::rounds),
      85);
}

TEST(Drift, ThatIsSmallIsNotSpokenOf) {
  EXPECT_EQ(flagged({.iterations = 50, .noise = 0.0005, .run_change = 0.015}, Over::run, 200), 0);
  EXPECT_EQ(flagged({.iterations = 50, .noise = 0.0005, .run_change = 0.025}, Over::run, 200), 100)
      << "its twin";
}

TEST(Drift, IsTheChangeFromTheFirstToTheLast) {
  Times times;
  for (int i = 0; i < 60; ++i) {
    times.push_back(100 * std::pow(1.2, i / 59.0));
  }
  times[7] = 1e9;  // an outlier moves nothing
  const auto drift = run_drift(times, Rounds(60, 0));
  ASSERT_TRUE(drift);
  EXPECT_NEAR(drift->change, 0.2, 0.01);
  EXPECT_GT(drift->interval.low, 0.1);
  EXPECT_LT(drift->interval.high, 0.3);
  EXPECT_TRUE(drift->matters());
}

TEST(Drift, WithinRoundsIsNoneOverTheRun) {
  std::mt19937_64 random(seed());
  const Series saw = {.iterations = 40, .rounds = 5, .noise = 0.0001, .round_change = 0.1};
  const auto times = draw(saw, random);
  EXPECT_FALSE(run_drift(times, rounds_of(saw))->matters());
  const auto within = round_drift(times, rounds_of(saw));
  EXPECT_NEAR(within->change, 0.1, 0.005);
  EXPECT_TRUE(within->matters());
}

TEST(Drift, TakesEnoughSamples) {
  const Times nine(9, 1e6);
  EXPECT_FALSE(run_drift(nine, Rounds(9, 0)));
  EXPECT_TRUE(run_drift(Times(10, 1e6), Rounds(10, 0)));
  EXPECT_FALSE(run_drift(Times(10, 1e6), Rounds(10, 0))->matters());
  EXPECT_FALSE(run_drift(nine, Rounds{0, 0, 0, 1, 1, 1, 2, 2, 2})) << "three rounds";
  EXPECT_TRUE(round_drift(nine, Rounds{0, 0, 0, 1, 1, 1, 2, 2, 2}));
  EXPECT_FALSE(round_drift(nine, Rounds{0, 0, 0, 1, 1, 1, 1, 2, 2}));
  Rounds three;
  for (int i = 0; i < 30; ++i) {
    three.push_back(i / 10);
  }
  EXPECT_FALSE(run_drift(Times(30, 1e6), three)) << "three rounds of ten";
  EXPECT_TRUE(run_drift(nine, Rounds{0, 0, 1, 1, 2, 2, 3, 3, 4})) << "five rounds";
  Times holes(10, 1e6);
  holes[3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(run_drift(holes, Rounds(10, 0)));
}

}  // namespace
}  // namespace dovetail
