// A comparison as JSON.
#include <cmath>

#include <nlohmann/json.hpp>

#include "framework/compare/compare.hpp"
#include "framework/compare/compare_notes.hpp"
#include "framework/compare/flags.hpp"
#include "framework/compare/json_number.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

Json rank_json(const RankMetrics& rank) {
  return {{"step_ns", rank.step_ns},
          {"compute_ns", rank.compute_ns},
          {"moving_ns", rank.moving_ns},
          {"waiting_ns", rank.waiting_ns},
          {"hidden_ns", rank.hidden_ns},
          {"exposed_moving_ns", rank.exposed_moving_ns},
          {"exposed_waiting_ns", rank.exposed_waiting_ns},
          {"hand_off_ns", rank.hand_off_ns},
          {"launch_ns", rank.launch_ns},
          {"other_idle_ns", rank.other_idle_ns},
          {"compute_only_ns", rank.compute_only_ns},
          {"sms_left_out_ns", rank.sms_left_out_ns},
          {"launch_gaps_ns", rank.launch_gaps_ns},
          {"comm_only_moving_ns", rank.comm_only_moving_ns},
          {"comm_only_waiting_ns", rank.comm_only_waiting_ns}};
}

}  // namespace

Json interval_json(const std::optional<ConfidenceInterval>& interval) {
  return interval ? Json{interval->low, interval->high} : Json(nullptr);
}

Json before_json(const PolicyResult& result) {
  if (!result.before) {
    return nullptr;
  }
  return {{"agreement", result.before->agreement_ns},
          {"preparation", result.before->preparation_ns}};
}

Json rounds_json(const PolicyResult& result) {
  Json rounds = Json::array();
  for (const double time : result.round_ns) {
    rounds.push_back(std::isfinite(time) ? Json(time) : Json(nullptr));
  }
  return {{"began_ns", result.rounds_began_ns}, {"p50", std::move(rounds)}};
}

Json drift_json(const PolicyResult& result) {
  const auto one = [](const std::optional<Drift>& drift) {
    return drift ? Json{{"change", drift->change},
                        {"interval", interval_json(drift->interval)},
                        {"matters", drift->matters()}}
                 : Json(nullptr);
  };
  return {{"run", one(result.run_drift)}, {"rounds", one(result.round_drift)}};
}

Json to_json(const DecisionCounts& counts) {
  return {{"steps", counts.num_steps},
          {"ubatched", counts.num_ubatched},
          {"vetoed", counts.num_vetoed},
          {"reasons", counts.vetoes_by_reason},
          {"graphs", counts.steps_by_graph},
          {"eager_reasons", counts.eager_by_reason},
          {"captured", counts.num_captured}};
}

Json graphs_json(const PolicyResult& result) {
  Json json = result.scalars.to_json(path::kGraph);
  json["eager_reasons"] = result.eager_by_reason;
  return json;
}

Json memory_json(const PolicyResult& result) {
  Json json = result.scalars.to_json(path::kMemory);
  json["owned_bytes"] = known_number(result.owned_bytes);
  return json;
}

Json to_json(const PolicyMetrics& metrics) {
  const Decomposition& terms = metrics.decomposition;
  const double exposed = terms.exposed_waiting + terms.exposed_moving;
  const double exchange = metrics.waiting_ns + metrics.moving_ns;
  Json json = {
      {"terms_ns",
       {{"compute", terms.compute},
        {"split_tax", terms.split_tax},
        {"sms_left_out", json_number(terms.sms_left_out)},
        {"launch_gaps", json_number(terms.launch_gaps)},
        {"contention", terms.contention},
        {"after_exchange", terms.after_exchange},
        {"exposed_moving", terms.exposed_moving},
        {"exposed_waiting", terms.exposed_waiting},
        {"hand_off", terms.hand_off},
        {"launch", terms.launch},
        {"other_idle", terms.other_idle},
        {"recording", json_number(terms.recording)},
        {"timed_vs_profiled", terms.timed_vs_profiled},
        {"unexplained", terms.unexplained}}},
      {"unexplained_by_phase_ns", metrics.unexplained_by_phase_ns},
      {"measured_ns", terms.measured},
      {"profiled_ns", terms.profiled},
      {"recording_error_ns", json_number(terms.recording_error)},
      {"unrecorded_ns", terms.recording ? Json(terms.unrecorded) : Json(nullptr)},
      {"ideal_ns", metrics.ideal_ns},
      {"moving_ns", metrics.moving_ns},
      {"waiting_ns", metrics.waiting_ns},
      {"exposed_waiting_bounds_ns", {terms.waiting.least, terms.waiting.most}},
      {"exposed_moving_bounds_ns", {exposed - terms.waiting.most, exposed - terms.waiting.least}},
      {"waiting_bounds_ns", {metrics.waiting_bounds_ns.least, metrics.waiting_bounds_ns.most}},
      {"moving_bounds_ns",
       {exchange - metrics.waiting_bounds_ns.most, exchange - metrics.waiting_bounds_ns.least}},
      {"hidden_share", json_number(metrics.hidden_share)},
      {"hidden_share_with_waiting", json_number(metrics.hidden_share_with_waiting)},
      {"split_tax_factor", json_number(metrics.split_tax_factor)},
      {"comm_split_factor", json_number(metrics.comm_split_factor)},
      {"contention_factor", json_number(metrics.contention_factor)},
      {"comm_contention_factor", json_number(metrics.comm_contention_factor)},
      {"gated_ops", {{"held", metrics.num_held}, {"not_held", metrics.num_not_held}}},
      {"hand_off_wait_ns", to_json(metrics.hand_off_wait_ns)},
      {"ranks", Json::array()}};
  for (const RankMetrics& rank : metrics.mean_of_rank) {
    json["ranks"].push_back(rank_json(rank));
  }
  return json;
}

Json to_json(const CompareReport& report) {
  Json json = {
      {"baseline", report.baseline}, {"notes", notes_of(report)}, {"policies", Json::array()}};
  for (const PolicyComparison& policy : report.policies) {
    const PolicyResult& result = policy.result;
    const bool timed = result.step_ns.count > 0;
    json["policies"].push_back(
        {{"name", result.name},
         {"run", policy.run},
         {"baseline", policy.baseline},
         {"folder", result.folder.string()},
         {"status", result.status},
         {"problem", result.problem},
         {"note", policy.note()},
         {"flags", flag_names(flags_of(policy))},
         {"world_size", result.world_size},
         {"expert_parallel", result.expert_parallel},
         {"ubatches", result.num_ubatches},
         {"link", result.link},
         {"step_ns", timed ? to_json(result.step_ns) : Json(nullptr)},
         {"before_ns", timed ? before_json(result) : Json(nullptr)},
         {"step_ns_interval", timed ? interval_json(step_interval(result)) : Json(nullptr)},
         {"rounds_ns", rounds_json(result)},
         {"most_iterations", timed ? Json(result.most_iterations) : Json(nullptr)},
         {"ended_early", timed ? Json(result.has_ended_early()) : Json(nullptr)},
         {"drift", timed ? drift_json(result) : Json(nullptr)},
         {"step_kinds", timed ? kinds_json(merged_kinds(result.timed_steps)) : Json(nullptr)},
         {"each_step", timed ? kinds_json(kinds_of_steps(result.timed_steps)) : Json(nullptr)},
         {"speed_up", json_number(policy.speed_up)},
         {"speed_up_interval", interval_json(policy.speed_up_interval)},
         {"speed_up_basis", policy.basis ? Json(to_string(*policy.basis)) : Json(nullptr)},
         {"speed_up_counts", policy.counts ? Json(*policy.counts) : Json(nullptr)},
         {"device", result.device},
         {"host_share", json_number(result.host_share)},
         {"graphs", result.is_complete() ? graphs_json(result) : Json(nullptr)},
         {"memory", result.is_complete() ? memory_json(result) : Json(nullptr)},
         {"decisions", result.is_complete() ? to_json(result.decisions) : Json(nullptr)},
         {"metrics", policy.metrics.has_value() ? to_json(*policy.metrics) : Json(nullptr)}});
  }
  return json;
}

}  // namespace dovetail
