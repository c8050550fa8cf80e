// What auto decides by measured step times: the choice of curves, and the decision against a slow
// search.
#include <array>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/agreement.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/plan/step_time_table.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

StepTimeSample sample(std::int64_t tokens,
                      double step_ms,
                      double context = 0,
                      bool decode = false) {
  return {{tokens, context, decode}, step_ms};
}

TEST(StepTimes, AreLinesBetweenPointsAndFlatOutside) {
  const StepTimeCurves curves = {{sample(100, 10), sample(200, 30), sample(400, 30)},
                                 {sample(100, 20), sample(200, 20)}};
  const auto at = [&](std::int64_t tokens) {
    const auto estimate = estimate_step_times(curves, {tokens, 0, false});
    return std::pair(estimate->plain_ms, estimate->candidate_ms);
  };
  EXPECT_EQ(at(100), std::pair(10.0, 20.0));
  EXPECT_EQ(at(125), std::pair(15.0, 20.0));
  EXPECT_EQ(at(1), std::pair(10.0, 20.0));
  EXPECT_EQ(at(300), std::pair(30.0, 20.0)) << "where both were measured last";
  EXPECT_EQ(estimate_step_times(curves, {125, 0, false})->tokens, 125);
  EXPECT_EQ(estimate_step_times(curves, {300, 0, false})->tokens, 200);
  EXPECT_FALSE(estimate_step_times(curves, {100, 0, true})) << "no decode was measured";
  EXPECT_FALSE(estimate_step_times({{sample(1, 1)}, {sample(2, 1)}}, {1, 0, false}));
  EXPECT_FALSE(estimate_step_times({}, {1, 0, false}));
}

StepTimeSample with_error(std::int64_t tokens, double step_ms, double error_ms) {
  auto timed = sample(tokens, step_ms);
  timed.error_ms = error_ms;
  return timed;
}

TEST(StepTimes, ErrorsOfBothMakeTheMargin) {
  const StepTimeCurves curves = {{with_error(100, 10, 3), with_error(200, 20, 3)},
                                 {with_error(100, 4, 4), with_error(200, 15, 4)}};
  const auto at = [&](std::int64_t tokens) {
    return *estimate_step_times(curves, {tokens, 0, false});
  };
  EXPECT_EQ(at(100).margin_ms, 5);
  EXPECT_NEAR(at(150).margin_ms, 5 * std::sqrt(0.5), 1e-12) << "of two points, half of each";
  const StepTimeCurves twice = {{with_error(100, 9, 3), with_error(100, 11, 4)}, {sample(100, 7)}};
  const auto mean = *estimate_step_times(twice, {100, 0, false});
  EXPECT_EQ(mean.plain_ms, 10);
  EXPECT_EQ(mean.margin_ms, 2.5);
}

/// A candidate must gain more than chance may, but for wide intervals no more than 1 % is forgone.
TEST(StepTimes, AGainWithinTheMarginIsForgoneUpToAHundredth) {
  const auto prefers = [](double plain_ms, double candidate_ms, double error_ms) {
    return estimate_step_times({{with_error(100, plain_ms, error_ms)}, {sample(100, candidate_ms)}},
                               {100, 0, false})
        ->prefers_candidate();
  };
  EXPECT_FALSE(prefers(100, 100, 0)) << "no faster";
  EXPECT_TRUE(prefers(100.1, 100, 0)) << "faster, and times are exact";
  EXPECT_FALSE(prefers(100.1, 100, 0.2)) << "less than the margin";
  EXPECT_TRUE(prefers(100.3, 100, 0.2)) << "more than the margin";
  EXPECT_FALSE(prefers(100.9, 100, 50)) << "a margin of half the step";
  EXPECT_TRUE(prefers(101.1, 100, 50)) << "plain may be slower by 1 % at most";
  EXPECT_FALSE(prefers(99, 100, 50)) << "slower";
}

TEST(StepTimes, AreThoseOfTheNearestContextThatBothHave) {
  const StepTimeCurves curves = {
      {sample(8, 1, 0, true), sample(8, 2, 100, true), sample(8, 3, 300, true)},
      {sample(8, 1, 100, true), sample(8, 1, 300, true), sample(8, 1, 120, true)}};
  const auto plain = [&](double context) {
    return estimate_step_times(curves, {8, context, true})->plain_ms;
  };
  EXPECT_EQ(plain(0), 2);
  EXPECT_EQ(plain(120), 2);
  EXPECT_EQ(plain(200), 2) << "the smaller of two equally near";
  EXPECT_EQ(plain(201), 3);
}

/// Straight from the definition: for each curve all pairs of neighbours.
std::optional<double> slow_time(const std::vector<StepTimeSample>& samples,
                                const std::vector<StepTimeSample>& others,
                                const StepLoad& load) {
  double context = NAN;
  for (const auto& a : samples) {
    for (const auto& b : others) {
      const double c = a.load.context_tokens;
      if (a.load.one_token_each != load.one_token_each ||
          b.load.one_token_each != load.one_token_each || b.load.context_tokens != c) {
        continue;
      }
      const double gap = std::abs(c - load.context_tokens);
      const double best = std::abs(context - load.context_tokens);
      if (std::isnan(context) || gap < best || (gap == best && c < context)) {
        context = c;
      }
    }
  }
  const auto range = [&](const std::vector<StepTimeSample>& all) {
    std::pair<std::int64_t, std::int64_t> r = {INT64_MAX, INT64_MIN};
    for (const auto& s : all) {
      if (s.load.one_token_each == load.one_token_each && s.load.context_tokens == context) {
        r = {std::min(r.first, s.load.tokens), std::max(r.second, s.load.tokens)};
      }
    }
    return r;
  };
  const auto first = std::max(range(samples).first, range(others).first);
  const auto last = std::min(range(samples).second, range(others).second);
  if (std::isnan(context) || first > last) {
    return std::nullopt;
  }
  const auto tokens = std::min(std::max(load.tokens, first), last);
  const auto mean_at = [&](std::int64_t where) {
    double sum = 0;
    int count = 0;
    for (const auto& s : samples) {
      if (s.load == StepLoad{where, context, load.one_token_each}) {
        sum += s.step_ms;
        ++count;
      }
    }
    return count == 0 ? NAN : sum / count;
  };
  std::int64_t below = tokens;
  std::int64_t above = tokens;
  while (std::isnan(mean_at(below))) {
    --below;
  }
  while (std::isnan(mean_at(above))) {
    ++above;
  }
  if (below == above) {
    return mean_at(below);
  }
  return (mean_at(below) * static_cast<double>(above - tokens) +
          mean_at(above) * static_cast<double>(tokens - below)) /
         static_cast<double>(above - below);
}

std::vector<StepTimeSample> random_samples(std::mt19937_64& random) {
  std::vector<StepTimeSample> samples(random() % 8);
  for (auto& one : samples) {
    one.load = {static_cast<std::int64_t>(random() % 30),
                static_cast<double>(random() % 3) * 10,
                random() % 3 == 0};
    one.step_ms = static_cast<double>(1 + random() % 100) / 4;
  }
  return samples;
}

AgreementMessage message_for(const StepLoad& load) {
  Batch batch;
  if (load.one_token_each) {
    for (std::int64_t i = 0; i < load.tokens; ++i) {
      batch.requests.push_back({i, 1, static_cast<std::int64_t>(load.context_tokens)});
    }
  } else {
    batch.requests.push_back({0, load.tokens, static_cast<std::int64_t>(load.context_tokens)});
  }
  return make_message({Rank(0), batch, {}, 1});
}

TEST(Automatic, DecidesAsASlowSearchDoes) {
  std::mt19937_64 random(testing::fresh_seed());
  std::array<int, names<VetoReason>().size()> reasons{};
  for (int round = 0; round < 4000; ++round) {
    const StepTimeCurves curves = {random_samples(random), random_samples(random)};
    const StepLoad load{2 + static_cast<std::int64_t>(random() % 35),
                        static_cast<double>(random() % 31),
                        random() % 3 == 0};
    const auto message = message_for(load);
    ASSERT_EQ(load_of(message), load);
    const AgreementRule rule{2, WorkPhase::mixed, 0, 0, &curves};
    const auto decision = decide(message, rule);
    ++reasons.at(static_cast<std::size_t>(decision.reason));
    EXPECT_EQ(decision.ubatched, decision.reason == VetoReason::none);
    const auto plain = slow_time(curves.plain, curves.candidate, load);
    const auto candidate = slow_time(curves.candidate, curves.plain, load);
    ASSERT_EQ(plain.has_value(), candidate.has_value());
    if (!plain) {
      EXPECT_EQ(decision.reason, VetoReason::table_has_no_point);
    } else if (std::abs(*plain - *candidate) > 1e-9) {
      EXPECT_EQ(decision.ubatched, *candidate < *plain) << *candidate << " " << *plain;
      EXPECT_TRUE(decision.ubatched || decision.reason == VetoReason::table_prefers_plain);
    }
  }
  for (const auto reason :
       {VetoReason::none, VetoReason::table_prefers_plain, VetoReason::table_has_no_point}) {
    EXPECT_GT(reasons.at(static_cast<std::size_t>(reason)), 100) << to_string(reason);
  }
}

TEST(Automatic, MayNeverOverlapAndDecidesForPlainWhereTimesAreEqual) {
  const auto decide_at = [](const StepTimeCurves& curves, std::int64_t tokens) {
    return decide(message_for({tokens, 0, false}), {2, WorkPhase::prefill, 0, 0, &curves}).reason;
  };
  const StepTimeCurves slower = {{sample(10, 1), sample(1000, 50)},
                                 {sample(10, 2), sample(1000, 51)}};
  for (const std::int64_t tokens : {2, 10, 500, 1000, 100'000}) {
    EXPECT_EQ(decide_at(slower, tokens), VetoReason::table_prefers_plain);
  }
  const StepTimeCurves equal = {{sample(10, 1)}, {sample(10, 1)}};
  EXPECT_EQ(decide_at(equal, 10), VetoReason::table_prefers_plain);
  const StepTimeCurves crossing = {{sample(10, 1), sample(1000, 50)},
                                   {sample(10, 2), sample(1000, 30)}};
  EXPECT_EQ(decide_at(crossing, 10), VetoReason::table_prefers_plain);
  EXPECT_EQ(decide_at(crossing, 1000), VetoReason::none);
}

TEST(Automatic, KeepsThresholdsAndVetoes) {
  const StepTimeCurves faster = {{sample(10, 2)}, {sample(10, 1)}};
  AgreementRule rule{2, WorkPhase::prefill, 11, 0, &faster};
  EXPECT_EQ(decide(message_for({10, 0, false}), rule).reason, VetoReason::below_threshold);
  EXPECT_EQ(decide(message_for({11, 0, false}), rule).reason, VetoReason::none);
  auto vetoed = message_for({11, 0, false});
  vetoed.vetoes = 1;
  vetoed.veto_reason = static_cast<std::int64_t>(VetoReason::rank_veto);
  EXPECT_EQ(decide(vetoed, rule).reason, VetoReason::rank_veto);
  EXPECT_EQ(decide(message_for({0, 0, false}), rule).reason, VetoReason::no_work);
}

TEST(Automatic, TakesTheLoadOfAllRanks) {
  const Batch a{{{0, 1, 100}, {1, 1, 200}, {2, 0, 999}}};
  const Batch b{{{3, 1, 600}}};
  const auto both = reduce(make_message({Rank(0), a, {}, 1}), make_message({Rank(1), b, {}, 1}));
  EXPECT_EQ(load_of(both), (StepLoad{2, 300.0, true})) << "requests without tokens do not count";
  const auto mixed = reduce(both, make_message({Rank(2), Batch{{{4, 7, 0}}}, {}, 1}));
  EXPECT_EQ(load_of(mixed), (StepLoad{7, 225.0, false}));
}

TEST(StepTimes, HaveADigestThatTellsThemApart) {
  const StepTimeCurves a = {{sample(10, 1)}, {sample(10, 2)}};
  StepTimeCurves b = a;
  EXPECT_EQ(curves_digest(a), curves_digest(b));
  b.candidate[0].step_ms = std::nextafter(2.0, 3.0);
  EXPECT_NE(curves_digest(a), curves_digest(b));
  b = a;
  b.plain[0].error_ms = 0.5;
  EXPECT_NE(curves_digest(a), curves_digest(b));
  b = {a.candidate, a.plain};
  EXPECT_NE(curves_digest(a), curves_digest(b));
  b = {{sample(10, 1), sample(10, 2)}, {}};
  EXPECT_NE(curves_digest(a), curves_digest(b));
}

}  // namespace
}  // namespace dovetail
