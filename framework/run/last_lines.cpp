#include "framework/run/last_lines.hpp"

#include <algorithm>

#include "framework/compare/link_note.hpp"
#include "framework/compare/round_intervals.hpp"
#include "framework/compare/step_kinds.hpp"
#include "framework/compare/table.hpp"
#include "framework/record/run_info.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

bool is_baseline(const Experiment& experiment, const PolicyOutcome& outcome) {
  return experiment.verify.mode != VerifyMode::none && outcome.name == experiment.verify.baseline;
}

/// "stopped on request: policy dual_batch was asked to stop after 3 of 10 timed iterations; policy
/// staged has not run".
void print_what_is_missing(std::ostream& out, const std::vector<PolicyOutcome>& outcomes) {
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
    out << "stopped on request: " << missing << "\n";
  }
}

/// " (routing replayed, 3 of 4096 choices differ ...)" behind a verdict that routing was a part of.
std::string routing_note(const PolicyOutcome& outcome) {
  return outcome.verification && outcome.verification->routing
             ? " (routing " + to_text(*outcome.verification->routing) + ")"
             : "";
}

/// What is said of an interval that claims nothing; empty where it claims a difference.
std::string describe_claim(const nlohmann::json& summary) {
  if (const auto& counts = summary.at("speed_up_counts"); !counts.is_null()) {
    return counts.get<bool>() ? "" : ", no difference";
  }
  return summary.at("speed_up_basis") == to_string(SpeedUpBasis::runs) ? ", of another run"
                                                                       : ", of one round";
}

/// "speed_up 1.05 (1.02 to 1.08) ", where there is an interval.
std::string describe_speed_up(const nlohmann::json& summary) {
  const auto interval = summary.find("speed_up_interval");
  if (interval == summary.end() || interval->is_null() || summary.at("speed_up").is_null()) {
    return "";
  }
  const auto factor = [](const nlohmann::json& value) {
    return format_fixed(value.get<double>(), 2);
  };
  return "speed_up " + factor(summary.at("speed_up")) + " (" + factor(interval->at(0)) + " to " +
         factor(interval->at(1)) + describe_claim(summary) + ") ";
}

/// "policy dual_batch: step 0 ubatched 12.345 ms, steps 1 to 18 vetoed: below_threshold 1.234 ms",
/// of a policy that has several kinds of steps.
void print_kinds(std::ostream& out, const std::vector<PolicyOutcome>& outcomes) {
  for (const auto& outcome : outcomes) {
    const auto kinds = outcome.has_run()
                           ? outcome.summary.value("step_kinds", nlohmann::json::array())
                           : nlohmann::json::array();
    std::string text;
    for (std::size_t i = 0; kinds.size() > 1 && i < kinds.size(); ++i) {
      const auto kind = read_step_kind(kinds[i]);
      text += (i == 0 ? "policy " + outcome.name + ": " : ", ") +
              (kind.first_step == kind.last_step ? "step " : "steps ") + kind.describe_steps() +
              " " + kind.decision.describe() + " " + format_ms(kind.step_ns.p50) + " ms";
    }
    out << (text.empty() ? "" : text + "\n");
  }
}

/// "not quiet: control, a second copy of the baseline, has a speed-up of 0.91 (0.88 to 0.94); ...".
void print_unrest(std::ostream& out, const std::vector<PolicyOutcome>& outcomes) {
  for (const auto& outcome : outcomes) {
    if (outcome.name == kControlPolicy && outcome.has_run() &&
        outcome.summary.at("speed_up_counts") == true) {
      out << "not quiet: control, a second copy of the baseline, has a "
          << describe_speed_up(outcome.summary)
          << "over it; differences of this size mean nothing\n";
    }
  }
}

}  // namespace

bool PolicyOutcome::is_short() const {
  return !has_run() || summary.at("status") == to_string(RunStatus::stopped);
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
  if (outcome.not_finite) {
    return "not_finite";
  }
  return outcome.name == experiment.verify.baseline ? "baseline" : "not_verified";
}

void print_last_lines(std::ostream& out,
                      const Experiment& experiment,
                      const std::filesystem::path& run_folder,
                      const std::vector<PolicyOutcome>& outcomes,
                      const std::vector<std::string>& next) {
  if (!experiment.faults.empty()) {
    out << "fault injected: this run is no measurement\n";
  }
  for (const auto& outcome : outcomes) {
    if (outcome.has_run() && outcome.summary.at("fault") != kNoFault) {
      out << "fault in policy " << outcome.name << ": "
          << outcome.summary.at("fault").get<std::string>() << "\n";
    }
  }
  for (const auto& outcome : outcomes) {
    if (outcome.verification && outcome.verification->verdict != Verdict::verified) {
      out << to_text(*outcome.verification);
    }
    if (outcome.not_finite) {
      out << "policy " << outcome.name << ": not finite: " << outcome.not_finite->describe()
          << (is_baseline(experiment, outcome) ? "; nothing can be verified against it\n" : "\n");
    }
    if (outcome.has_bad_iterations()) {
      out << "policy " << outcome.name << ": " << to_text(*outcome.iterations);
      for (const auto& problem : outcome.iterations->problems) {
        out << "  " << problem << "\n";
      }
    }
  }
  std::vector<PolicyLink> links;
  for (const auto& outcome : outcomes) {
    if (outcome.has_run()) {
      links.push_back({outcome.name, outcome.summary.at("link").get<std::string>()});
    }
  }
  out << link_note(links);
  print_what_is_missing(out, outcomes);
  print_kinds(out, outcomes);
  print_unrest(out, outcomes);
  for (const auto& line : next) {
    out << line << "\n";
  }
  out << "results " << run_folder.string() << "\n";
  for (const auto& outcome : outcomes) {
    const bool has_times = outcome.has_run() && !outcome.summary.at("step_ns").is_null();
    out << "policy " << outcome.name << " step_ms "
        << (has_times ? format_ms(outcome.summary.at("step_ns").at("p50").get<double>())
                      : "invalid")
        << " " << (has_times ? describe_speed_up(outcome.summary) : "") << "verdict "
        << verdict_of(experiment, outcome) << routing_note(outcome);
    if (outcome.measured_in_point) {
      out << " (measured in point " << *outcome.measured_in_point << ")";
    }
    out << "\n";
  }
  out.flush();
}

std::vector<std::string> next_steps(const Experiment& experiment,
                                    const std::filesystem::path& run_folder,
                                    const std::vector<PolicyOutcome>& outcomes,
                                    const std::string& program) {
  std::vector<std::string> steps;
  for (const auto& outcome : outcomes) {
    if (outcome.verification && outcome.verification->verdict == Verdict::mismatch) {
      steps.push_back(
          "verify: " +
          quoted_command(
              {program, "verify", outcome.verification->baseline, outcome.verification->policy}));
    }
  }
  const bool has_run = std::any_of(
      outcomes.begin(), outcomes.end(), [](const auto& outcome) { return outcome.has_run(); });
  if (!has_run) {
    return steps;
  }
  steps.push_back("compare: " + quoted_command({program, "compare", run_folder.string()}));
  const bool is_wrong = std::any_of(outcomes.begin(), outcomes.end(), [&](const auto& outcome) {
    return verdict_of(experiment, outcome) == to_string(Verdict::mismatch);
  });
  if (experiment.record.timing == TimingDetail::steps && !is_wrong) {
    steps.emplace_back("reasons for the times: run again with --set record.timing=ops");
  }
  return steps;
}

}  // namespace dovetail
