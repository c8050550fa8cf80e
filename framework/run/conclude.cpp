#include "framework/run/conclude.hpp"

#include <algorithm>
#include <array>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/summary.hpp"
#include "framework/compare/table.hpp"
#include "framework/compare/verify.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/trace.hpp"
#include "framework/record/view.hpp"

namespace dovetail {
namespace {

/// What the last lines say of one policy.
struct PolicyOutcome {
  std::string name;
  std::optional<VerifyReport> verification;
  std::optional<IterationsReport> iterations;  ///< of the baseline
  nlohmann::json summary;                      ///< null = the policy never ran

  bool has_bad_iterations() const { return iterations && !iterations->problems.empty(); }

  bool has_run() const { return !summary.is_null(); }

  bool is_short() const {
    return !has_run() || summary.at("status") == to_string(RunStatus::stopped);
  }
};

CompareMode compare_mode(VerifyMode mode) {
  return mode == VerifyMode::bitwise ? CompareMode::bitwise : CompareMode::tolerance;
}

/// Whether the policy was asked to stop before its end, or never began for that reason.
bool was_stopped(const std::filesystem::path& folder) {
  const auto file = folder / rank_file_name(0);
  return !std::filesystem::exists(file) || RankFile(file).status() == RunStatus::stopped;
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
  const bool has_reference = std::filesystem::exists(reference);
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
                              bool stopped) {
  const auto folder = run_folder / name;
  const auto baseline = run_folder / experiment.verify.baseline;
  PolicyOutcome outcome;
  outcome.name = name;
  write_view(folder);
  if (experiment.record.timing == TimingDetail::ops) {
    write_chrome_trace(folder, folder / kTraceFileName);
  }
  const bool verifies = experiment.verify.mode != VerifyMode::none;
  outcome.verification = verify_policy(experiment.verify, run_folder, name, stopped);
  if (verifies && name == experiment.verify.baseline && !was_stopped(folder)) {
    outcome.iterations = judge_iterations(PolicyFolder(folder));
  }
  outcome.summary = policy_summary(folder,
                                   {.baseline_dir = verifies ? baseline : std::filesystem::path(),
                                    .verification = outcome.verification,
                                    .iterations = outcome.iterations});
  write_json(folder / kSummaryFileName, outcome.summary);
  return outcome;
}

std::string verdict_of(const Experiment& experiment, const PolicyOutcome& outcome) {
  if (outcome.is_short()) {
    return outcome.has_run() ? "stopped" : "not_run";
  }
  if (outcome.verification) {
    return std::string(to_string(outcome.verification->verdict));
  }
  if (outcome.has_bad_iterations()) {
    return std::string(to_string(Verdict::mismatch));
  }
  return outcome.name == experiment.verify.baseline ? "baseline" : "not_verified";
}

/// "stopped on request: policy dual_batch was asked to stop after 3 of 10 timed iterations; policy
/// staged has not run".
void print_what_is_missing(const std::vector<PolicyOutcome>& outcomes) {
  std::string missing;
  for (const auto& outcome : outcomes) {
    if (outcome.is_short()) {
      missing += (missing.empty() ? "" : "; ") + ("policy " + outcome.name) +
                 (outcome.has_run()
                      ? " was " + outcome.summary.at("attributes").at("failure").get<std::string>()
                      : " has not run");
    }
  }
  if (!missing.empty()) {
    std::cout << "stopped on request: " << missing << "\n";
  }
}

/// " (routing replayed, 3 of 4096 choices differ ...)" behind a verdict that routing was a part of.
std::string routing_note(const PolicyOutcome& outcome) {
  return outcome.verification && outcome.verification->routing
             ? " (routing " + to_text(*outcome.verification->routing) + ")"
             : "";
}

/// "policy dual_batch step_ms 12.345 verdict verified": one line a policy, for scripts; the folder
/// first.
void print_last_lines(const Experiment& experiment,
                      const std::filesystem::path& run_folder,
                      const std::vector<PolicyOutcome>& outcomes) {
  if (!experiment.faults.empty()) {
    std::cout << "fault injected: this run is no measurement\n";
  }
  for (const auto& outcome : outcomes) {
    if (outcome.has_run() && outcome.summary.at("fault") != kNoFault) {
      std::cout << "fault in policy " << outcome.name << ": "
                << outcome.summary.at("fault").get<std::string>() << "\n";
    }
  }
  for (const auto& outcome : outcomes) {
    if (outcome.verification && outcome.verification->verdict != Verdict::verified) {
      std::cout << to_text(*outcome.verification);
    }
    if (outcome.has_bad_iterations()) {
      std::cout << "policy " << outcome.name << ": " << to_text(*outcome.iterations);
      for (const auto& problem : outcome.iterations->problems) {
        std::cout << "  " << problem << "\n";
      }
    }
  }
  std::vector<PolicyLink> links;
  for (const auto& outcome : outcomes) {
    if (outcome.has_run()) {
      links.push_back({outcome.name, outcome.summary.at("link").get<std::string>()});
    }
  }
  std::cout << link_note(links);
  print_what_is_missing(outcomes);
  std::cout << "results " << run_folder.string() << "\n";
  for (const auto& outcome : outcomes) {
    const bool has_times = outcome.has_run() && !outcome.summary.at("step_ns").is_null();
    std::cout << "policy " << outcome.name << " step_ms "
              << (has_times ? format_ms(outcome.summary.at("step_ns").at("p50").get<double>())
                            : "invalid")
              << " verdict " << verdict_of(experiment, outcome) << routing_note(outcome) << "\n";
  }
  std::cout.flush();
}

int conclude_on_first_rank(const Experiment& experiment,
                           const std::filesystem::path& run_folder,
                           bool stopped) {
  std::vector<PolicyOutcome> outcomes;
  int exit_code = kExitDone;
  for (const auto& policy : experiment.policies) {
    if (stopped && !std::filesystem::exists(run_folder / policy.name / rank_file_name(0))) {
      outcomes.push_back({.name = policy.name,
                          .verification = std::nullopt,
                          .iterations = std::nullopt,
                          .summary = nullptr});
      continue;
    }
    outcomes.push_back(conclude_policy(experiment, run_folder, policy.name, stopped));
    if (outcomes.back().verification) {
      exit_code = std::max(exit_code, exit_code_of(outcomes.back().verification->verdict));
    }
    if (outcomes.back().has_bad_iterations()) {
      exit_code = std::max(exit_code, exit_code_of(Verdict::mismatch));
    }
  }
  print_last_lines(experiment, run_folder, outcomes);
  const bool is_short = std::any_of(
      outcomes.begin(), outcomes.end(), [](const auto& outcome) { return outcome.is_short(); });
  return exit_code == kExitDone && (is_short || stopped) ? kExitStopped : exit_code;
}

}  // namespace

int conclude(const RunContext& context, const std::filesystem::path& run_folder, bool stopped) {
  const auto wait = patient(context.ranks.wait);
  std::array<std::int64_t, 1> exit_code = {kExitDone};
  all_reduce(context.ranks.groups.world, exit_code, Reduction::max, wait);  // all files are closed
  run_on_all_ranks(context.ranks.groups.world, wait, [&] {
    if (context.is_first_rank()) {
      exit_code[0] = conclude_on_first_rank(context.experiment, run_folder, stopped);
    }
  });
  all_reduce(context.ranks.groups.world, exit_code, Reduction::max, wait);
  return static_cast<int>(exit_code[0]);
}

}  // namespace dovetail
