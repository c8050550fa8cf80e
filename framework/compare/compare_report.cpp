// A comparison as tables and as JSON.
#include <algorithm>
#include <limits>

#include <nlohmann/json.hpp>

#include "framework/compare/compare.hpp"
#include "framework/compare/json_number.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;
using Align = TextTable::Align;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string factor(const std::optional<double>& value) {
  return format_fixed(value.value_or(kNaN), 2);
}

std::string share(const std::optional<double>& value) {
  return format_percent(value.value_or(kNaN));
}

std::string step_table(const CompareReport& report) {
  TextTable table({{"policy", Align::left},
                   {"status", Align::left},
                   {"ranks"},
                   {"ubatches"},
                   {"steps"},
                   {"p50 [ms]"},
                   {"p95 [ms]"},
                   {"p99 [ms]"},
                   {"min [ms]"},
                   {"max [ms]"},
                   {"speed-up"},
                   {"note", Align::left}});
  for (const PolicyComparison& policy : report.policies) {
    const PolicyResult& result = policy.result;
    const bool timed = result.step_ns.count > 0;
    const auto ms = [timed](double ns) { return format_ms(timed ? ns : kNaN); };
    table.add_row({result.name,
                   result.status,
                   std::to_string(result.world_size),
                   std::to_string(result.num_ubatches),
                   timed ? std::to_string(result.step_ns.count) : "-",
                   ms(result.step_ns.p50),
                   ms(result.step_ns.p95),
                   ms(result.step_ns.p99),
                   ms(result.step_ns.min),
                   ms(result.step_ns.max),
                   factor(policy.speed_up),
                   policy.note});
  }
  return table.to_string();
}

/// "12.3", or "-" where not known.
std::string gib(std::int64_t bytes) {
  return format_fixed(bytes < 0 ? kNaN : static_cast<double>(bytes) / (1LL << 30), 2);
}

std::string count_or_dash(std::int64_t count) {
  return count < 0 ? "-" : std::to_string(count);
}

bool ran_on_gpu(const PolicyComparison& policy) {
  return policy.result.is_complete() &&
         policy.result.device.find(to_string(DeviceKind::cuda)) != std::string::npos;
}

std::string device_table(const CompareReport& report) {
  TextTable table({{"policy", Align::left},
                   {"device", Align::left},
                   {"graph", Align::left},
                   {"captures"},
                   {"replays"},
                   {"host share"},
                   {"peak [GiB]"},
                   {"allocated"},
                   {"owned"},
                   {"weights"},
                   {"cache"},
                   {"exchange"}});
  for (const PolicyComparison& policy : report.policies) {
    const PolicyResult& result = policy.result;
    if (!result.is_complete()) {
      continue;
    }
    const RecordedScalars& scalars = result.scalars;
    table.add_row({result.name,
                   result.device,
                   result.decisions.describe_graphs(),
                   count_or_dash(scalars.at(path::kGraphCaptures)),
                   count_or_dash(scalars.at(path::kGraphReplays)),
                   share(result.host_share),
                   gib(scalars.at(path::kPeakReservedBytes)),
                   gib(scalars.at(path::kPeakAllocatedBytes)),
                   gib(result.owned_bytes),
                   gib(scalars.at(path::kWeightsBytes)),
                   gib(scalars.at(path::kCacheBytes)),
                   gib(scalars.at(path::kExchangeBytes))});
  }
  return table.to_string();
}

std::string term_table(const CompareReport& report) {
  TextTable table({{"policy [ms]", Align::left},
                   {"compute"},
                   {"split tax"},
                   {"contention"},
                   {"exposed moving"},
                   {"exposed waiting"},
                   {"hand-off"},
                   {"launch"},
                   {"other idle"},
                   {"residual"},
                   {"= p50"},
                   {"ideal"}});
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.metrics.has_value()) {
      continue;
    }
    const Decomposition& terms = policy.metrics->decomposition;
    table.add_row({policy.result.name,
                   format_ms(terms.compute),
                   format_ms(terms.split_tax),
                   format_ms(terms.contention),
                   format_ms(terms.exposed_moving),
                   format_ms(terms.exposed_waiting),
                   format_ms(terms.hand_off),
                   format_ms(terms.launch),
                   format_ms(terms.other_idle),
                   format_ms(terms.residual),
                   format_ms(terms.measured),
                   format_ms(policy.metrics->ideal_ns)});
  }
  return table.to_string();
}

std::string factor_table(const CompareReport& report) {
  TextTable table({{"policy", Align::left},
                   {"moving [ms]"},
                   {"hidden"},
                   {"waiting [ms]"},
                   {"split tax [x]"},
                   {"comm split [x]"},
                   {"contention [x]"},
                   {"comm contention [x]"},
                   {"imbalance [x]"},
                   {"hand-offs"},
                   {"hand-off p50 [us]"},
                   {"p99 [us]"}});
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.metrics.has_value()) {
      continue;
    }
    const PolicyMetrics& metrics = *policy.metrics;
    const bool handed = metrics.hand_off_wait_ns.count > 0;
    table.add_row({policy.result.name,
                   format_ms(metrics.moving_ns),
                   share(metrics.hidden_share),
                   format_ms(metrics.waiting_ns),
                   factor(metrics.split_tax_factor),
                   factor(metrics.comm_split_factor),
                   factor(metrics.contention_factor),
                   factor(metrics.comm_contention_factor),
                   factor(imbalance_over_layers(policy.result.traffic.tokens_per_rank)),
                   std::to_string(metrics.hand_off_wait_ns.count),
                   format_us(handed ? metrics.hand_off_wait_ns.p50 : kNaN),
                   format_us(handed ? metrics.hand_off_wait_ns.p99 : kNaN)});
  }
  return table.to_string();
}

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
          {"comm_only_moving_ns", rank.comm_only_moving_ns},
          {"comm_only_waiting_ns", rank.comm_only_waiting_ns}};
}

}  // namespace

std::string to_text(const CompareReport& report) {
  std::vector<PolicyLink> links;
  for (const PolicyComparison& policy : report.policies) {
    links.push_back({policy.result.name, policy.result.link});
  }
  std::string text = link_note(links) +
                     "Step time: the slowest rank of each step. Baseline: " + report.baseline +
                     "\n" + step_table(report);
  if (std::any_of(report.policies.begin(), report.policies.end(), ran_on_gpu)) {
    text +=
        "\nGraphs of the timed steps; captures and replays of all steps; time to enqueue over "
        "step time; memory of the fullest rank\n" +
        device_table(report);
  }
  for (const PolicyComparison& policy : report.policies) {
    if (policy.metrics.has_value()) {
      text += "\nWhere the step goes (slowest rank, profiled steps; the terms add up to the p50)\n";
      text += term_table(report);
      text += "\nExchange and hand-off (all ranks)\n" + factor_table(report);
      break;
    }
  }
  return text;
}

Json to_json(const Statistics& statistics) {
  return {{"count", statistics.count},
          {"min", statistics.min},
          {"p50", statistics.p50},
          {"p95", statistics.p95},
          {"p99", statistics.p99},
          {"max", statistics.max},
          {"mean", statistics.mean}};
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
  Json json = {{"terms_ns",
                {{"compute", terms.compute},
                 {"split_tax", terms.split_tax},
                 {"contention", terms.contention},
                 {"exposed_moving", terms.exposed_moving},
                 {"exposed_waiting", terms.exposed_waiting},
                 {"hand_off", terms.hand_off},
                 {"launch", terms.launch},
                 {"other_idle", terms.other_idle},
                 {"residual", terms.residual}}},
               {"measured_ns", terms.measured},
               {"profiled_ns", terms.profiled()},
               {"ideal_ns", metrics.ideal_ns},
               {"moving_ns", metrics.moving_ns},
               {"waiting_ns", metrics.waiting_ns},
               {"hidden_share", json_number(metrics.hidden_share)},
               {"hidden_share_with_waiting", json_number(metrics.hidden_share_with_waiting)},
               {"split_tax_factor", json_number(metrics.split_tax_factor)},
               {"comm_split_factor", json_number(metrics.comm_split_factor)},
               {"contention_factor", json_number(metrics.contention_factor)},
               {"comm_contention_factor", json_number(metrics.comm_contention_factor)},
               {"hand_off_wait_ns", to_json(metrics.hand_off_wait_ns)},
               {"ranks", Json::array()}};
  for (const RankMetrics& rank : metrics.mean_of_rank) {
    json["ranks"].push_back(rank_json(rank));
  }
  return json;
}

Json to_json(const CompareReport& report) {
  Json json = {{"baseline", report.baseline}, {"policies", Json::array()}};
  for (const PolicyComparison& policy : report.policies) {
    const PolicyResult& result = policy.result;
    const bool timed = result.step_ns.count > 0;
    json["policies"].push_back(
        {{"name", result.name},
         {"folder", result.folder.string()},
         {"status", result.status},
         {"problem", result.problem},
         {"note", policy.note},
         {"world_size", result.world_size},
         {"expert_parallel", result.expert_parallel},
         {"ubatches", result.num_ubatches},
         {"link", result.link},
         {"step_ns", timed ? to_json(result.step_ns) : Json(nullptr)},
         {"speed_up", json_number(policy.speed_up)},
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
