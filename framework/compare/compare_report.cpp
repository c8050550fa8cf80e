// A comparison as tables.
#include <algorithm>
#include <limits>

#include "framework/base/registry.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/compare_notes.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

using Align = TextTable::Align;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string factor(const std::optional<double>& value) {
  return format_fixed(value.value_or(kNaN), 2);
}

std::string ms_or_dash(const std::optional<double>& ns) {
  return format_ms(ns.value_or(kNaN));
}

std::string range(const std::optional<ConfidenceInterval>& interval) {
  return interval ? format_fixed(interval->low, 2) + " to " + format_fixed(interval->high, 2) : "-";
}

std::string share(const std::optional<double>& value) {
  return format_percent(value.value_or(kNaN));
}

/// The columns of a table, those that tell runs apart only where there are several.
TextTable make_table(const CompareReport& report, Report table) {
  auto columns = columns_of(table);
  if (!report.has_several_runs) {
    std::erase_if(columns, [](const TextTable::Column& column) {
      return column.header == kRunHeading || column.header == kBaselineHeading;
    });
  }
  return TextTable(std::move(columns));
}

/// The cells in front of a row: run and policy.
std::vector<std::string> head_of(const CompareReport& report, const PolicyComparison& policy) {
  return report.has_several_runs ? std::vector{policy.run, policy.result.name}
                                 : std::vector{policy.result.name};
}

std::string print(const TextTable& table, const CompareReport& report, std::size_t width) {
  return table.to_string(width, report.has_several_runs ? 2 : 1);
}

void add_row(TextTable& table, std::vector<std::string> head, std::vector<std::string> cells) {
  std::move(cells.begin(), cells.end(), std::back_inserter(head));
  table.add_row(std::move(head));
}

std::string step_table(const CompareReport& report, std::size_t width) {
  TextTable table = make_table(report, Report::compare_steps);
  for (const PolicyComparison& policy : report.policies) {
    const PolicyResult& result = policy.result;
    const bool timed = result.step_ns.count > 0;
    const auto ms = [timed](double ns) { return format_ms(timed ? ns : kNaN); };
    auto head = head_of(report, policy);
    if (report.has_several_runs) {
      head.push_back(policy.baseline);
    }
    add_row(table,
            std::move(head),
            {result.status,
             std::to_string(result.world_size),
             std::to_string(result.num_ubatches),
             timed ? std::to_string(result.step_ns.count) : "-",
             ms(result.step_ns.p50),
             ms(result.step_ns.p95.value_or(kNaN)),
             ms(result.step_ns.p99.value_or(kNaN)),
             ms(result.step_ns.min),
             ms(result.step_ns.max),
             factor(policy.speed_up),
             range(policy.speed_up_interval)});
  }
  return print(table, report, width);
}

/// Whether a policy has steps that one statistic must not hold.
bool has_kinds(const PolicyComparison& policy) {
  return merged_kinds(policy.result.timed_steps).size() > 1;
}

std::string kind_table(const CompareReport& report, std::size_t width) {
  TextTable table = make_table(report, Report::compare_kinds);
  for (const PolicyComparison& policy : report.policies) {
    for (const StepKind& kind : merged_kinds(policy.result.timed_steps)) {
      add_row(table,
              head_of(report, policy),
              {kind.describe_steps(),
               kind.decision.describe(),
               kind.decision.schedule,
               std::to_string(kind.step_ns.count),
               format_ms(kind.step_ns.p50),
               format_ms(kind.step_ns.p95.value_or(kNaN)),
               format_ms(kind.step_ns.p99.value_or(kNaN)),
               format_ms(kind.step_ns.min),
               format_ms(kind.step_ns.max)});
    }
  }
  return print(table, report, width);
}

bool has_several_steps(const CompareReport& report) {
  return std::any_of(report.policies.begin(), report.policies.end(), [](const auto& policy) {
    const auto& steps = policy.result.timed_steps;
    return std::any_of(steps.begin(), steps.end(), [](const auto& one) { return one.step > 0; });
  });
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

std::string device_table(const CompareReport& report, std::size_t width) {
  TextTable table = make_table(report, Report::compare_devices);
  for (const PolicyComparison& policy : report.policies) {
    const PolicyResult& result = policy.result;
    if (!result.is_complete()) {
      continue;
    }
    const RecordedScalars& scalars = result.scalars;
    add_row(table,
            head_of(report, policy),
            {result.device,
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
  return print(table, report, width);
}

std::string term_table(const CompareReport& report, std::size_t width) {
  TextTable table = make_table(report, Report::compare_terms);
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.metrics.has_value()) {
      continue;
    }
    const Decomposition& terms = policy.metrics->decomposition;
    const auto& before = policy.result.before;
    add_row(
        table,
        head_of(report, policy),
        {format_ms(terms.compute),
         format_ms(terms.split_tax),
         ms_or_dash(terms.sms_left_out),
         ms_or_dash(terms.launch_gaps),
         format_ms(terms.contention),
         format_ms(terms.after_exchange),
         format_ms(terms.exposed_moving),
         format_ms(terms.exposed_waiting),
         format_ms(terms.hand_off),
         format_ms(terms.launch),
         format_ms(terms.other_idle),
         ms_or_dash(terms.recording),
         format_ms(terms.timed_vs_profiled),
         format_ms(terms.unexplained),
         format_ms(terms.measured),
         format_ms(before ? before->agreement_ns : kNaN),
         format_ms(before ? before->preparation_ns : kNaN),
         format_ms(before ? terms.measured + before->agreement_ns + before->preparation_ns : kNaN),
         format_ms(policy.metrics->ideal_ns)});
  }
  return print(table, report, width);
}

std::string factor_table(const CompareReport& report, std::size_t width) {
  TextTable table = make_table(report, Report::compare_exchange);
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.metrics.has_value()) {
      continue;
    }
    const PolicyMetrics& metrics = *policy.metrics;
    const bool handed = metrics.hand_off_wait_ns.count > 0;
    add_row(table,
            head_of(report, policy),
            {format_ms(metrics.moving_ns),
             share(metrics.hidden_share),
             format_ms(metrics.waiting_ns),
             factor(metrics.split_tax_factor),
             factor(metrics.comm_split_factor),
             factor(metrics.contention_factor),
             factor(metrics.comm_contention_factor),
             factor(imbalance_over_layers(policy.result.traffic.tokens_per_rank)),
             std::to_string(metrics.hand_off_wait_ns.count),
             format_us(handed ? metrics.hand_off_wait_ns.p50 : kNaN),
             format_us(metrics.hand_off_wait_ns.p99.value_or(kNaN))});
  }
  return print(table, report, width);
}

}  // namespace

std::vector<Report> reports_of(const CompareReport& report) {
  const auto& policies = report.policies;
  std::vector<Report> reports = {Report::compare_steps};
  if (std::any_of(policies.begin(), policies.end(), has_kinds)) {
    reports.push_back(Report::compare_kinds);
  }
  if (std::any_of(policies.begin(), policies.end(), ran_on_gpu)) {
    reports.push_back(Report::compare_devices);
  }
  if (std::any_of(policies.begin(), policies.end(), has_reasons)) {
    reports.push_back(Report::compare_terms);
    reports.push_back(Report::compare_exchange);
  }
  return reports;
}

std::string to_text(const CompareReport& report, std::size_t width) {
  std::vector<PolicyLink> links;
  for (const PolicyComparison& policy : report.policies) {
    links.push_back({label_of(report, policy), policy.result.link});
  }
  std::string text =
      link_note(links) + "Step time: the slowest rank of each step" +
      (has_several_steps(report) ? ", the mean over the steps of an iteration" : "") + ". " +
      (report.has_several_runs ? "Each policy against its baseline"
                               : "Baseline: " + report.baseline) +
      "\n";
  for (const Report table : reports_of(report)) {
    switch (table) {
      case Report::compare_kinds:
        text +=
            "\nSteps of an iteration by kind (a step, or several alike: their mean in each "
            "iteration)\n" +
            kind_table(report, width);
        break;
      case Report::compare_devices:
        text +=
            "\nGraphs of the timed steps; captures and replays of all steps; time to enqueue over "
            "step time; memory of the fullest rank\n" +
            device_table(report, width);
        break;
      case Report::compare_terms:
        text +=
            "\nWhere the step goes (mean over ranks, profiled steps; the terms add up to the p50, "
            "and "
            "with what is before the step to the whole)\n" +
            term_table(report, width);
        break;
      case Report::compare_exchange:
        text += "\nExchange and hand-off (all ranks)\n" + factor_table(report, width);
        break;
      default:
        text += step_table(report, width) + note_lines(report);
    }
  }
  return text + closing_lines(report);
}

}  // namespace dovetail
