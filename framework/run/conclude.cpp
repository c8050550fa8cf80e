#include "framework/run/conclude.hpp"

#include <algorithm>
#include <array>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/summary.hpp"
#include "framework/compare/verify.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/trace.hpp"
#include "framework/record/view.hpp"
#include "framework/run/last_lines.hpp"
#include "framework/run/resumed_run.hpp"

namespace dovetail {
namespace {

CompareMode compare_mode(VerifyMode mode) {
  return mode == VerifyMode::bitwise ? CompareMode::bitwise : CompareMode::tolerance;
}

/// Whether the policy was asked to stop before its end, or never began for that reason.
bool was_stopped(const std::filesystem::path& folder) {
  const auto file = folder / rank_file_name(0);
  return !path_exists(file) || RankFile(file).status() == RunStatus::stopped;
}

/// Against the baseline, or the reference with the policy's own experts where there is one. Nothing
/// where the run was stopped before what that needs.
std::optional<VerifyReport> verify_policy(const VerifyConfig& config,
                                          const std::filesystem::path& run_folder,
                                          const std::string& name,
                                          bool stopped) {
  const auto folder = run_folder / name;
  const auto baseline = run_folder / config.baseline;
  if (config.mode == VerifyMode::none || name == config.baseline || was_stopped(folder) ||
      was_stopped(baseline)) {
    return std::nullopt;
  }
  const auto reference = folder / kReferenceFolder;
  const bool has_reference = path_exists(reference);
  if (has_reference && was_stopped(reference)) {
    return std::nullopt;
  }
  auto report =
      verify_policies(has_reference ? reference : baseline, folder, {compare_mode(config.mode)});
  const bool lacks_reference =
      stopped && report.routing.has_value() && report.routing->excluded_share > 0;
  return lacks_reference ? std::nullopt : std::optional(std::move(report));
}

PolicyOutcome conclude_policy(const Experiment& experiment,
                              const std::filesystem::path& run_folder,
                              const std::string& name,
                              const PolicyLoopResult& policies) {
  const auto folder = run_folder / name;
  const auto baseline = run_folder / experiment.verify.baseline;
  PolicyOutcome outcome;
  outcome.name = name;
  if (const auto* earlier = find_earlier(policies.earlier, name)) {
    outcome.measured_in_point = earlier->point;
  }
  write_view(folder);
  if (experiment.record.timing == TimingDetail::ops) {
    write_chrome_trace(folder, folder / kTraceFileName);
  }
  const bool verifies = experiment.verify.mode != VerifyMode::none;
  outcome.verification = verify_policy(experiment.verify, run_folder, name, policies.stopped);
  if (verifies && name == experiment.verify.baseline && !was_stopped(folder)) {
    outcome.iterations = judge_iterations(PolicyFolder(folder));
  }
  const bool is_verified =
      outcome.verification && outcome.verification->verdict == Verdict::verified;
  if (!is_verified && !was_stopped(folder)) {  // all outputs of a verified policy are finite
    outcome.not_finite = find_not_finite(PolicyFolder(folder));
  }
  outcome.summary = policy_summary(folder,
                                   {.baseline_dir = verifies ? baseline : std::filesystem::path(),
                                    .verification = outcome.verification,
                                    .iterations = outcome.iterations,
                                    .not_finite = outcome.not_finite,
                                    .measured_in_point = outcome.measured_in_point});
  write_json(folder / kSummaryFileName, outcome.summary);
  return outcome;
}

int conclude_on_first_rank(const Experiment& experiment,
                           const std::filesystem::path& run_folder,
                           const PolicyLoopResult& policies,
                           const RunOptions& options,
                           int num_ranks,
                           bool is_sweep) {
  const bool stopped = policies.stopped;
  std::vector<PolicyOutcome> outcomes;
  int exit_code = kExitDone;
  for (const auto& policy : experiment.policies) {
    if (stopped && !path_exists(run_folder / policy.name / rank_file_name(0))) {
      outcomes.push_back({.name = policy.name,
                          .verification = std::nullopt,
                          .iterations = std::nullopt,
                          .not_finite = std::nullopt,
                          .measured_in_point = std::nullopt,
                          .summary = nullptr});
      continue;
    }
    outcomes.push_back(conclude_policy(experiment, run_folder, policy.name, policies));
    if (outcomes.back().verification) {
      exit_code = std::max(exit_code, exit_code_of(outcomes.back().verification->verdict));
    }
    const bool verifies = experiment.verify.mode != VerifyMode::none;
    if (outcomes.back().has_bad_iterations() || (verifies && outcomes.back().not_finite)) {
      exit_code = std::max(exit_code, exit_code_of(Verdict::mismatch));
    }
  }
  std::vector<std::string> next;
  if (!is_sweep) {
    next = next_steps(experiment, run_folder, outcomes, options.program);
    if (stopped) {
      next.push_back(how_to_resume(options, run_folder, num_ranks));
    }
  }
  print_last_lines(std::cout, experiment, run_folder, outcomes, next);
  const bool is_short = std::any_of(
      outcomes.begin(), outcomes.end(), [](const auto& outcome) { return outcome.is_short(); });
  return exit_code == kExitDone && (is_short || stopped) ? kExitStopped : exit_code;
}

}  // namespace

int conclude(const RunContext& context,
             const std::filesystem::path& run_folder,
             const PolicyLoopResult& policies,
             const RunOptions& options,
             bool is_sweep) {
  const auto wait = patient(context.ranks.wait);
  std::array<std::int64_t, 1> exit_code = {kExitDone};
  all_reduce(context.ranks.groups.world, exit_code, Reduction::max, wait);  // all files are closed
  run_on_all_ranks(context.ranks.groups.world, wait, [&] {
    if (context.is_first_rank()) {
      exit_code[0] = conclude_on_first_rank(context.experiment,
                                            run_folder,
                                            policies,
                                            options,
                                            context.ranks.grid.world_size,
                                            is_sweep);
    }
  });
  all_reduce(context.ranks.groups.world, exit_code, Reduction::max, wait);
  return static_cast<int>(exit_code[0]);
}

}  // namespace dovetail
