// The terms that passes of their own measure: split tax at equal SMs, SMs left out, launch gaps,
// recording.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/compare/metrics.hpp"
#include "tests/unit/compare/hand_made_profile.hpp"

namespace dovetail {
namespace {

/// Alone and held back, attention of both ubatches takes 13 each rather than 15 and 16; in the full
/// pass 16 and 15 rather than 18 and 20. Experts are not held. With all SMs the three take 12, 11
/// and 37.
StepProfile with_all_passes() {
  StepProfile profile = hand_made();
  profile.phases = {"attention", "dispatch", "attention", "dispatch", "experts"};
  for (RankProfile& rank : profile.ranks) {
    rank.ops_all_sms = {{0, 12}, kNotRun, {14, 25}, kNotRun, {29, 66}};
    rank.ops_gated = {{0, 13}, kNotRun, {20, 33}, kNotRun, kNotRun};
    rank.ops_full_gated = {{0, 16}, {16, 20}, {20, 35}, {35, 40}, kNotRun};
    rank.unrecorded = {3000, 3097};
  }
  profile.ranks[1].unrecorded = {3000, 3099};
  return profile;
}

TEST(PolicyMetrics, SplitTaxSmsLaunchGapsAndRecordingAreTermsOfTheirOwn) {
  PolicyMetrics baseline;
  baseline.mean_of_rank.resize(2);
  baseline.mean_of_rank[0] = {
      .compute_only_ns = 60, .sms_left_out_ns = 4, .compute_only_gaps_ns = 6};
  baseline.mean_of_rank[1] = baseline.mean_of_rank[0];
  baseline.net_compute_ns = 50;
  const PolicyMetrics metrics = policy_metrics({with_all_passes()}, 105, &baseline);
  const Decomposition& terms = metrics.decomposition;
  EXPECT_EQ(terms.compute, 50) << "of the baseline, on all SMs and without gaps";
  EXPECT_EQ(terms.split_tax, 60 - 50) << "12 + 11 + 37";
  EXPECT_EQ(terms.sms_left_out, 1 + 2 + 3) << "of 13, 13 and 40";
  EXPECT_EQ(terms.launch_gaps, 2 + 5) << "of the full pass";
  EXPECT_EQ(terms.contention, 15 - 13) << "attention u1, held in both; experts: 0";
  EXPECT_EQ(metrics.num_held, 8) << "two of each pass and rank";
  EXPECT_EQ(metrics.num_not_held, 4) << "experts";
  EXPECT_EQ(terms.recording, 99 - 100) << "the slowest rank of each of the two";
  EXPECT_EQ(terms.timed_vs_profiled, 105 - 99);
  EXPECT_EQ(terms.unexplained, 16 - 13) << "attention u0";
  EXPECT_EQ(terms.explained() + terms.unexplained, 105);
  EXPECT_DOUBLE_EQ(*metrics.split_tax_factor, 60.0 / 50);
  EXPECT_EQ(metrics.unexplained_by_phase_ns, (std::map<std::string, double>{{"attention", 3}}))
      << "the only op beside which nothing runs";
}

/// Over steps: -1, 3 and 1 have the mean 1, and the error 4.303 x 2 / sqrt(3).
TEST(PolicyMetrics, WhatRecordingAddsHasAnError) {
  std::vector<StepProfile> steps(3, with_all_passes());
  for (const std::size_t rank : {std::size_t{0}, std::size_t{1}}) {
    steps[1].ranks[rank].unrecorded = {3000, 3103};
    steps[2].ranks[rank].unrecorded = {3000, 3101};
  }
  const Decomposition terms = policy_metrics(steps, 105).decomposition;
  EXPECT_DOUBLE_EQ(*terms.recording, 1);
  ASSERT_TRUE(terms.recording_error.has_value());
  EXPECT_NEAR(*terms.recording_error, 4.3027 * 2 / std::sqrt(3.0), 1e-3);
  EXPECT_FALSE(policy_metrics({steps[0]}, 105).decomposition.recording_error.has_value());
}

/// An older file does not say whether there was anything to measure: not known, and not 0.
TEST(PolicyMetrics, WhatAnOlderFileDoesNotHoldIsNotKnown) {
  StepProfile profile = hand_made();
  profile.knows_all_passes = false;
  const Decomposition terms = policy_metrics({profile}, 105).decomposition;
  EXPECT_FALSE(terms.sms_left_out.has_value());
  EXPECT_FALSE(terms.launch_gaps.has_value());
  EXPECT_FALSE(terms.recording.has_value());
  EXPECT_EQ(terms.compute, 71) << "with both of them";
  EXPECT_EQ(terms.explained() + terms.unexplained, 105);
  StepProfile other = with_all_passes();
  EXPECT_FALSE(policy_metrics({other, profile}, 105).decomposition.sms_left_out.has_value())
      << "of all steps or of none";
  EXPECT_FALSE(policy_metrics({other, profile}, 105).decomposition.recording.has_value());
}

TEST(PolicyMetrics, LaunchGapsAreNotKnownWhereNoOpWasHeld) {
  StepProfile profile = with_all_passes();
  for (RankProfile& rank : profile.ranks) {
    rank.ops_gated.assign(5, kNotRun);
    rank.ops_full_gated.assign(5, kNotRun);
  }
  const PolicyMetrics metrics = policy_metrics({profile}, 105);
  EXPECT_FALSE(metrics.decomposition.launch_gaps.has_value());
  EXPECT_EQ(metrics.num_not_held, 12);
  profile.ranks[0].ops_gated.pop_back();
  EXPECT_THROW(policy_metrics({profile}, 105), ContractError);
}

}  // namespace
}  // namespace dovetail
