// From the run folder of a point to its rows.
#include "framework/compare/sweep_result.hpp"

#include <limits>
#include <map>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/compare/sweep_baseline.hpp"
#include "framework/config/dump.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::optional<double> number_at(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? std::optional(found->get<double>())
                                                   : std::nullopt;
}

/// The rows that a request has in the record of one iteration, whose first one is at `position`.
struct RecordedRequest {
  std::int64_t rows = 0;
  std::int64_t position = std::numeric_limits<std::int64_t>::max();
};

/// Tokens and contexts of a step, from what the ranks recorded of all steps of all variants.
void read_tokens(const PolicyFolder& folder, SweepPolicy& policy) {
  double contexts = 0;
  std::int64_t num_requests = 0;
  policy.one_token_each = true;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    const std::int64_t steps = std::max<std::int64_t>(1, file.shape(path::kStepNs).at(1));
    const auto ids = file.read<std::int64_t>(path::kRequestId).values;
    const auto positions = file.read<std::int64_t>(path::kPositions).values;
    std::map<std::int64_t, RecordedRequest> requests;
    for (std::size_t row = 0; row < ids.size(); ++row) {
      RecordedRequest& request = requests[ids[row]];
      ++request.rows;
      request.position = std::min(request.position, positions.at(row));
    }
    for (const auto& [id, request] : requests) {
      const double length = static_cast<double>(request.rows) / static_cast<double>(steps);
      contexts += static_cast<double>(request.position) +
                  length * static_cast<double>(steps - 1) / 2;  // the mean over the steps
      policy.one_token_each = policy.one_token_each && request.rows == steps;
      ++num_requests;
    }
    const std::int64_t tokens = std::ssize(ids) / (steps * file.num_variants());
    policy.max_tokens = std::max(policy.max_tokens, tokens);
    policy.total_tokens += tokens;
  }
  policy.context_tokens = num_requests == 0 ? 0 : contexts / static_cast<double>(num_requests);
}

std::string verdict_of(const Json& summary, const Experiment& experiment) {
  const Json& verification = summary.at("verification");
  if (!verification.is_null()) {
    return verification.at("verdict");
  }
  if (summary.contains("not_finite") && !summary.at("not_finite").is_null()) {
    return "not_finite";
  }
  const bool is_baseline = experiment.verify.mode != VerifyMode::none &&
                           summary.at("policy") == experiment.verify.baseline;
  if (is_baseline && summary.contains("iterations") && !summary.at("iterations").is_null() &&
      !summary.at("iterations").at("passed").get<bool>()) {
    return "mismatch";
  }
  return is_baseline ? "baseline" : "not_verified";
}

SweepPolicy read_policy_row(const fs::path& folder,
                            const Json& summary,
                            const Experiment& experiment) {
  SweepPolicy policy;
  policy.name = summary.at("policy");
  policy.ubatches = summary.at("ubatches");
  policy.link = summary.at("link");
  policy.verdict = verdict_of(summary, experiment);
  if (const Json& decisions = summary.at("decisions"); !decisions.is_null()) {
    policy.vetoed_steps = decisions.at("vetoed");
  }
  policy.measured_in_point = read_measured_in_point(summary);
  policy.flags = read_texts(summary, "flags");
  if (const Json& step = summary.at("step_ns"); !step.is_null()) {
    policy.step_ns = read_statistics(step);
    read_rounds(summary, policy);
    policy.step_interval = read_interval(summary, "step_ns_interval");
  }
  if (const Json& metrics = summary.at("metrics"); !metrics.is_null()) {
    policy.hidden_share = number_at(metrics, "hidden_share");
    policy.split_tax = number_at(metrics, "split_tax_factor");
    if (const Json& waits = metrics.at("hand_off_wait_ns"); waits.at("count") > 0) {
      policy.hand_off_p50_ns = number_at(waits, "p50");
    }
  }
  const PolicyFolder files(folder);
  const ScheduleRecord schedule = files.rank(0).schedules().at(0);
  policy.schedule = schedule.name;
  policy.schedule_digest = schedule.digest;
  const RankFile& first = files.rank(0);
  if (first.has_attribute(attribute::kResolvedExecution)) {
    policy.resolved =
        parse_resolved_execution(first.text(attribute::kResolvedExecution),
                                 first.path().string() + ": " + attribute::kResolvedExecution);
  }
  read_tokens(files, policy);
  return policy;
}

/// How many timed iterations a policy that is complete has to have: fewer than it was asked for
/// where `execution.precision` let it end, by its own record.
std::int64_t iterations_to_have(const fs::path& folder, const PolicyConfig& policy) {
  return policy.execution.precision > 0 ? PolicyFolder(folder).rank(0).timed_iterations()
                                        : policy.execution.iterations;
}

/// What is missing from a policy for it to be done; empty = nothing.
std::string problem_of(const fs::path& folder,
                       const Json& summary,
                       const PolicyConfig& policy,
                       const WorkloadConfig& workload) {
  if (summary.at("status") != "complete") {
    return summary.at("problem");
  }
  const std::int64_t expected = iterations_to_have(folder, policy) * workload.steps;
  const std::int64_t finished = summary.at("decisions").at("steps");
  return finished == expected ? ""
                              : "policy " + policy.name + ": " + std::to_string(finished) + " of " +
                                    counted(expected, "timed step");
}

void add_speed_ups(const Experiment& experiment, std::vector<SweepPolicy>& policies) {
  const SweepPolicy* baseline = policies.empty() ? nullptr : &policies.front();
  for (const SweepPolicy& policy : policies) {
    if (experiment.verify.mode != VerifyMode::none && policy.name == experiment.verify.baseline) {
      baseline = &policy;
    }
  }
  set_speed_ups(policies, baseline);
}

/// Fills the rows; returns the first problem.
std::string read_policies(const fs::path& folder,
                          const Experiment& experiment,
                          SweepPointResult& point) {
  std::string problem;
  for (const PolicyConfig& policy : experiment.policies) {
    const fs::path file = folder / policy.name / kSummaryFileName;
    std::string found;
    if (!path_exists(file)) {
      found = "policy " + policy.name + ": no " + kSummaryFileName;
    } else {
      const Json summary =
          parse_strict_json(read_text_file(file.string(), kSummaryText), {.file = file.string()});
      found = problem_of(file.parent_path(), summary, policy, experiment.workload);
      point.policies.push_back(read_policy_row(file.parent_path(), summary, experiment));
      const auto notes = read_texts(summary, "notes");
      point.notes.insert(point.notes.end(), notes.begin(), notes.end());
    }
    problem = problem.empty() ? found : problem;
  }
  return problem;
}

/// As read_policies, for a folder that may be of another experiment.
std::string read_run(const fs::path& folder,
                     const Experiment& experiment,
                     SweepPointResult& point) {
  if (!path_exists(folder / kExperimentFileName)) {
    return std::string("no ") + kExperimentFileName;
  }
  if (read_text_file((folder / kExperimentFileName).string(), kRecordedExperimentText) !=
      dump(experiment)) {
    return "it is of another experiment";
  }
  return read_policies(folder, experiment, point);
}

}  // namespace

std::optional<ConfidenceInterval> read_interval(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null()
             ? std::nullopt
             : std::optional(ConfidenceInterval{found->at(0), found->at(1)});
}

void read_rounds(const Json& json, SweepPolicy& policy) {
  const auto found = json.find("rounds_ns");
  if (found == json.end() || found->is_null()) {
    return;
  }
  policy.rounds_began_ns = found->at("began_ns");
  for (const Json& time : found->at("p50")) {
    policy.round_ns.push_back(time.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                             : time.get<double>());
  }
}

std::optional<std::size_t> read_measured_in_point(const Json& json) {
  const auto found = json.find("measured_in_point");
  return found != json.end() && found->is_number_unsigned()
             ? std::optional(found->get<std::size_t>())
             : std::nullopt;
}

std::vector<std::string> read_texts(const Json& json, const char* key) {
  return json.value(key, std::vector<std::string>());
}

SweepPointResult read_sweep_point(const fs::path& folder, const Experiment& experiment) {
  SweepPointResult point;
  point.status = SweepPointStatus::incomplete;
  try {
    if (!path_exists(folder)) {
      return {};
    }
    point.problem = read_run(folder, experiment, point);
  } catch (const InputError& error) {
    point.problem = error.what();
  } catch (const Json::exception& error) {
    point.problem = (folder / kSummaryFileName).string() + ": " + error.what();
  } catch (const std::exception& error) {
    point.problem = folder.string() + ": " + error.what();
  }
  add_speed_ups(experiment, point.policies);
  if (point.problem.empty()) {
    point.status = SweepPointStatus::complete;
    for (const SweepPolicy& policy : point.policies) {
      if (policy.verdict == "mismatch" ||
          (policy.verdict == "not_finite" && experiment.verify.mode != VerifyMode::none)) {
        point.status = SweepPointStatus::mismatch;
      } else if (policy.verdict == "not_comparable") {
        point.status = SweepPointStatus::incomplete;
        point.problem = "policy " + policy.name + " cannot be compared with the baseline";
      }
    }
  }
  return point;
}

}  // namespace dovetail
