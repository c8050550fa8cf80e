#include "framework/compare/summary.hpp"

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/compare_notes.hpp"
#include "framework/compare/flags.hpp"
#include "framework/compare/json_number.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

/// The root attributes of the lowest readable rank.
Json attributes_of(const std::filesystem::path& policy_dir) {
  Json json = Json::object();
  try {
    const PolicyFolder folder(policy_dir);
    for (const RankEntry& entry : folder.ranks()) {
      if (!entry.file.has_value()) {
        continue;
      }
      for (const hdf5::Attribute& one : entry.file->attributes()) {
        std::visit([&](const auto& value) { json[one.name] = value; }, one.value);
      }
      break;
    }
  } catch (const InputError&) {
    // No readable rank: the summary's status and problem say so.
  }
  return json;
}

Json traffic_json(const PolicyResult& result) {
  const TrafficTotals& traffic = result.traffic;
  Json json = result.scalars.to_json(path::kTraffic);
  json["tokens_per_rank"] = traffic.tokens_per_rank;
  json["imbalance_ranks"] = imbalance_over_layers(traffic.tokens_per_rank);
  json["tokens_per_expert"] = traffic.tokens_per_expert;
  json["imbalance_experts"] = Json::array();
  for (const auto& layer : traffic.tokens_per_expert) {
    json["imbalance_experts"].push_back(imbalance(layer));
  }
  return json;
}

void add_times(const PolicyResult& result, Json& json) {
  json["step_ns"] = to_json(result.step_ns);
  json["step_ns_interval"] = interval_json(step_interval(result));
  json["before_ns"] = before_json(result);
  json["rounds_ns"] = rounds_json(result);
  json["step_kinds"] = kinds_json(merged_kinds(result.timed_steps));
  json["drift"] = drift_json(result);
  json["most_iterations"] = result.most_iterations;
  json["ended_early"] = result.has_ended_early();
  json["each_step"] = kinds_json(kinds_of_steps(result.timed_steps));
}

/// Against itself the baseline's factors are 1, not unknown.
PolicyMetrics metrics_of_baseline(const PolicyComparison& own) {
  return *metrics_of(own.result, &*own.metrics);
}

void add_comparison(const PolicyComparison& own, bool has_baseline, Json& json) {
  if (has_baseline) {
    json["speed_up"] = json_number(own.speed_up);
    json["speed_up_interval"] = interval_json(own.speed_up_interval);
    if (own.basis) {
      json["speed_up_basis"] = to_string(*own.basis);
    }
    if (own.counts) {
      json["speed_up_counts"] = *own.counts;
    }
  }
  const CompareReport alone = {
      .baseline = own.baseline, .has_several_runs = false, .policies = {own}};
  json["notes"] = notes_of(alone, false);
  json["flags"] = flag_names(flags_of(own));
}

}  // namespace

Json policy_summary(const std::filesystem::path& policy_dir, const SummaryOptions& options) {
  const PolicyResult result = read_policy_result(policy_dir);
  const auto& iterations =
      options.verification ? options.verification->iterations : options.iterations;
  const bool contradicted =
      (options.verification && options.verification->verdict == Verdict::mismatch) ||
      (iterations && !iterations->problems.empty()) ||
      (options.not_finite && !options.baseline_dir.empty());
  const bool valid = result.is_complete() && !contradicted;
  const Json attributes = attributes_of(policy_dir);
  Json json = {{"policy", result.name},
               {"experiment", result.experiment},
               {"status", result.status},
               {"problem", result.problem},
               {"timings", valid ? "valid" : "invalid"},
               {"world_size", result.world_size},
               {"expert_parallel", result.expert_parallel},
               {"ubatches", result.num_ubatches},
               {"link", result.link},
               {"fault", attributes.value(attribute::kFault, kNoFault)},
               {"device", result.device},
               {"step_ns", nullptr},
               {"host_share", nullptr},
               {"graphs", nullptr},
               {"memory", nullptr},
               {"step_ns_interval", nullptr},
               {"before_ns", nullptr},
               {"rounds_ns", nullptr},
               {"step_kinds", nullptr},
               {"each_step", nullptr},
               {"drift", nullptr},
               {"most_iterations", nullptr},
               {"ended_early", nullptr},
               {"speed_up", nullptr},
               {"speed_up_interval", nullptr},
               {"speed_up_basis", nullptr},
               {"speed_up_counts", nullptr},
               {"metrics", nullptr},
               {"notes", Json::array()},
               {"flags", Json::array()},
               {"decisions", nullptr},
               {"traffic", nullptr},
               {"verification",
                options.verification.has_value() ? to_json(*options.verification) : Json(nullptr)},
               {"iterations", iterations ? to_json(*iterations) : Json(nullptr)},
               {"not_finite", options.not_finite ? to_json(*options.not_finite) : Json(nullptr)},
               {"measured_in_point",
                options.measured_in_point ? Json(*options.measured_in_point) : Json(nullptr)},
               {"attributes", attributes}};
  if (result.is_complete()) {
    json["decisions"] = to_json(result.decisions);
    json["graphs"] = graphs_json(result);
    json["memory"] = memory_json(result);
    json["traffic"] = traffic_json(result);
  }
  if (!valid) {
    return json;
  }
  std::vector<std::filesystem::path> folders = {policy_dir};
  if (!options.baseline_dir.empty()) {
    folders.insert(folders.begin(), options.baseline_dir);
  }
  const CompareReport report = compare_policies(folders);
  const PolicyComparison& own = report.policies.back();
  if (result.step_ns.count > 0) {
    add_times(result, json);
  }
  json["host_share"] = json_number(result.host_share);
  add_comparison(own, !options.baseline_dir.empty(), json);
  if (own.metrics.has_value()) {
    const bool is_baseline =
        !options.baseline_dir.empty() && is_same_file(policy_dir, options.baseline_dir);
    json["metrics"] = to_json(is_baseline ? metrics_of_baseline(own) : *own.metrics);
  }
  return json;
}

}  // namespace dovetail
