// The end of a run: lines for scripts, and what to do next.
#include "framework/run/last_lines.hpp"

#include <sstream>

#include <gtest/gtest.h>

#include "framework/compare/step_kinds.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_experiment;
using Steps = std::vector<std::string>;

Experiment experiment_with(const std::string& more) {
  return fake_experiment(
      "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
      "policies: [{name: sequential}, {name: dual_batch}]\n" +
      more);
}

const Experiment kVerified = experiment_with("verify: {baseline: sequential, mode: tolerance}\n");

PolicyOutcome outcome_of(const std::string& policy) {
  PolicyOutcome outcome;
  outcome.name = policy;
  outcome.summary = {
      {"status", "complete"}, {"fault", "none"}, {"link", "none"}, {"step_ns", {{"p50", 1.5e6}}}};
  return outcome;
}

PolicyOutcome judged(const std::string& policy, Verdict verdict) {
  auto outcome = outcome_of(policy);
  outcome.verification.emplace();
  outcome.verification->verdict = verdict;
  outcome.verification->baseline = "out/sequential";
  outcome.verification->policy = "out/" + policy;
  return outcome;
}

PolicyOutcome not_finite(PolicyOutcome outcome) {
  outcome.not_finite = {.tensor = "hidden", .rank = 1, .request = 3, .position = 7, .element = 2};
  return outcome;
}

std::string lines_of(const Experiment& experiment, const std::vector<PolicyOutcome>& outcomes) {
  std::ostringstream out;
  print_last_lines(out, experiment, "out", outcomes, {});
  return out.str();
}

TEST(LastLines, WhatComesNextIsAboveThoseForScripts) {
  std::ostringstream out;
  print_last_lines(out, kVerified, "out", {outcome_of("sequential")}, {"compare: it", "and so on"});
  EXPECT_TRUE(out.str().starts_with("compare: it\nand so on\nresults out\n")) << out.str();
}

TEST(LastLines, AreALineAPolicyBehindTheFolder) {
  EXPECT_EQ(
      lines_of(kVerified, {outcome_of("sequential"), judged("dual_batch", Verdict::verified)}),
      "results out\n"
      "policy sequential step_ms 1.500 verdict baseline\n"
      "policy dual_batch step_ms 1.500 verdict verified\n");
}

PolicyOutcome with_speed_up(PolicyOutcome outcome, double value, double low, double high) {
  outcome.summary["speed_up"] = value;
  outcome.summary["speed_up_interval"] = {low, high};
  outcome.summary["speed_up_counts"] = low > 1 || high < 1;
  outcome.summary["speed_up_basis"] = "rounds";
  return outcome;
}

TEST(LastLines, SpeedUpsOfRoundsSayHowSureTheyAre) {
  const auto policy = judged("dual_batch", Verdict::verified);
  EXPECT_TRUE(lines_of(kVerified, {with_speed_up(policy, 1.05, 1.02, 1.08)})
                  .ends_with("policy dual_batch step_ms 1.500 speed_up 1.05 (1.02 to 1.08) verdict "
                             "verified\n"));
  EXPECT_TRUE(lines_of(kVerified, {with_speed_up(policy, 1.01, 0.98, 1.04)})
                  .ends_with("speed_up 1.01 (0.98 to 1.04, no difference) verdict verified\n"));
}

TEST(LastLines, WhatClaimsNothingSaysWhatItIsOver) {
  auto policy = with_speed_up(judged("control", Verdict::verified), 2, 1.9, 2.1);
  policy.summary["speed_up_counts"] = nullptr;
  for (const auto& [basis, words] :
       {std::pair("steps", "of one round"), {"runs", "of another run"}}) {
    policy.summary["speed_up_basis"] = basis;
    EXPECT_EQ(lines_of(kVerified, {policy}),
              "results out\npolicy control step_ms 1.500 speed_up 2.00 (1.90 to 2.10, " +
                  std::string(words) + ") verdict verified\n");
  }
}

TEST(LastLines, AControlThatDiffersSaysThatTheRunWasNotQuiet) {
  const auto control = judged("control", Verdict::verified);
  EXPECT_TRUE(lines_of(kVerified, {with_speed_up(control, 0.91, 0.88, 0.94)})
                  .starts_with("not quiet: control, a second copy of the baseline, has a speed_up "
                               "0.91 (0.88 to 0.94) over it; differences of this size mean "
                               "nothing\nresults out\n"))
      << lines_of(kVerified, {with_speed_up(control, 0.91, 0.88, 0.94)});
  EXPECT_TRUE(
      lines_of(kVerified, {with_speed_up(control, 1.0, 0.95, 1.05)}).starts_with("results out\n"));
  EXPECT_TRUE(
      lines_of(kVerified, {with_speed_up(judged("dual_batch", Verdict::verified), 2, 1.9, 2.1)})
          .starts_with("results out\n"))
      << "another policy may differ";
}

TEST(LastLines, KindsOfStepsStandApart) {
  auto outcome = outcome_of("dual_batch");
  std::vector<StepKind> kinds(2);
  kinds[0] = {.decision = {.is_ubatched = true}, .step_ns = statistics({2e6})};
  outcome.summary["step_kinds"] = kinds_json({kinds[0]});
  EXPECT_TRUE(lines_of(kVerified, {outcome}).starts_with("results out\n")) << "one kind";
  kinds[1] = {.first_step = 1,
              .last_step = 18,
              .decision = {.veto = "below_threshold"},
              .step_ns = statistics({1e6})};
  outcome.summary["step_kinds"] = kinds_json(kinds);
  EXPECT_TRUE(lines_of(kVerified, {outcome})
                  .starts_with("policy dual_batch: step 0 ubatched 2.000 ms, steps 1 to 18 vetoed: "
                               "below_threshold 1.000 ms\nresults out\n"))
      << lines_of(kVerified, {outcome});
}

TEST(LastLines, ABaselineThatIsNotFiniteIsNone) {
  EXPECT_EQ(lines_of(kVerified, {not_finite(outcome_of("sequential"))}),
            "policy sequential: not finite: hidden of rank 1, request 3, position 7, element 2 is "
            "-inf; nothing can be verified against it\n"
            "results out\n"
            "policy sequential step_ms 1.500 verdict not_finite\n");
}

TEST(LastLines, NotFiniteIsNamedWhereNothingIsVerified) {
  EXPECT_EQ(lines_of(experiment_with(""), {not_finite(outcome_of("dual_batch"))}),
            "policy dual_batch: not finite: hidden of rank 1, request 3, position 7, element 2 is "
            "-inf\n"
            "results out\n"
            "policy dual_batch step_ms 1.500 verdict not_finite\n");
}

TEST(NextSteps, NameTheReasonsOnlyWhereTheyAreMissing) {
  const std::vector<PolicyOutcome> outcomes = {outcome_of("sequential")};
  EXPECT_EQ(next_steps(kVerified, "my out", outcomes, "bin/dovetail"),
            (Steps{"compare: bin/dovetail compare 'my out'",
                   "reasons for the times: run again with --set record.timing=ops"}));
  const auto with_ops = experiment_with("record: {timing: ops}\n");
  EXPECT_EQ(next_steps(with_ops, "out", outcomes, "dovetail"),
            Steps{"compare: dovetail compare out"});
}

TEST(NextSteps, NameTheFoldersOfAMismatch) {
  const auto steps = next_steps(kVerified,
                                "out",
                                {outcome_of("sequential"), judged("dual_batch", Verdict::mismatch)},
                                "dovetail");
  EXPECT_EQ(steps,
            (Steps{"verify: dovetail verify out/sequential out/dual_batch",
                   "compare: dovetail compare out"}))
      << "reasons for times of wrong results are no next step";
}

TEST(NextSteps, AreNoneOfWhatHasNotRun) {
  PolicyOutcome outcome;
  outcome.name = "sequential";
  EXPECT_EQ(next_steps(kVerified, "out", {outcome}, "dovetail"), Steps{});
}

}  // namespace
}  // namespace dovetail
