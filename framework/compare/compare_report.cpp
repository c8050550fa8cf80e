// A comparison as tables.
#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/base/registry.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

using Align = TextTable::Align;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string factor(const std::optional<double>& value) {
  return format_fixed(value.value_or(kNaN), 2);
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
             ms(result.step_ns.p95),
             ms(result.step_ns.p99),
             ms(result.step_ns.min),
             ms(result.step_ns.max),
             factor(policy.speed_up),
             range(policy.speed_up_interval)});
  }
  return print(table, report, width);
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
    add_row(table,
            head_of(report, policy),
            {format_ms(terms.compute),
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
             format_us(handed ? metrics.hand_off_wait_ns.p99 : kNaN)});
  }
  return print(table, report, width);
}

bool has_reasons(const PolicyComparison& policy) {
  return policy.metrics.has_value();
}

/// The policy's name, told apart from those of other runs.
std::string label_of(const CompareReport& report, const PolicyComparison& policy) {
  return report.has_several_runs ? policy.run + "/" + policy.result.name : policy.result.name;
}

/// Whether more of the step is unexplained than what is to be explained: why it is slower or faster
/// than the baseline.
bool is_unexplained(const PolicyComparison& policy) {
  if (!has_reasons(policy) || !policy.speed_up) {
    return false;
  }
  const auto& terms = policy.metrics->decomposition;
  const double difference = terms.measured * std::abs(*policy.speed_up - 1);
  return difference > 0 && std::abs(terms.residual) > difference;
}

/// Of the compute: what smaller parts or an exchange beside it cannot have saved.
constexpr double kMostSaved = 0.05;

/// Whether the baseline's profiled steps were disturbed: a cost that is far below zero.
bool was_disturbed(const PolicyComparison& policy) {
  if (!has_reasons(policy)) {
    return false;
  }
  const auto& terms = policy.metrics->decomposition;
  return std::min(terms.split_tax, terms.contention) < -kMostSaved * terms.compute;
}

/// A line for each policy that has one: they are too long for a column.
std::string note_lines(const CompareReport& report) {
  std::string text;
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.note.empty()) {
      text += "note: " + label_of(report, policy) + ": " + policy.note + "\n";
    }
  }
  return text;
}

/// What no table counts, how to get the tables that are missing, and what columns mean.
std::string closing_lines(const CompareReport& report) {
  std::vector<std::string> not_read;
  std::vector<std::string> without_reasons;
  std::vector<std::string> unexplained;
  std::vector<std::string> disturbed;
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.result.is_read()) {
      not_read.push_back(label_of(report, policy));
    }
    if (is_unexplained(policy)) {
      unexplained.push_back(label_of(report, policy));
    }
    if (was_disturbed(policy)) {
      disturbed.push_back(label_of(report, policy));
    }
    if (policy.result.is_complete() && !has_reasons(policy)) {
      without_reasons.push_back(label_of(report, policy));
    }
  }
  std::string text =
      "\nNot in the step time: agreement of the ranks, making of inputs, warm-up, capture of "
      "graphs, "
      "hashing, recording.\n";
  if (!not_read.empty()) {
    text += "Not read whole: " + join_names(not_read) +
            "; files are missing or damaged, the notes say which (exit code 2)\n";
  }
  if (!without_reasons.empty()) {
    text += "Where the step goes is not known of " + join_names(without_reasons) +
            ": no op was timed. To time ops, run again with --set record.timing=ops\n";
  }
  if (!unexplained.empty()) {
    text += "Not explained: in " + join_names(unexplained) +
            " the residual is larger than what the step time differs from the baseline's. The "
            "terms do not say why it is slower or faster; run again on a quieter machine\n";
  }
  if (!disturbed.empty()) {
    text += "Not quiet: in " + join_names(disturbed) +
            " split tax or contention is far below zero, so profiled steps of the baseline were "
            "slowed down; run again on a quiet machine\n";
  }
  return text + "What a column means: dovetail compare --explain [COLUMN]\n";
}

}  // namespace

std::vector<Report> reports_of(const CompareReport& report) {
  const auto& policies = report.policies;
  std::vector<Report> reports = {Report::compare_steps};
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
  std::string text = link_note(links) + "Step time: the slowest rank of each step. " +
                     (report.has_several_runs ? "Each policy against its baseline"
                                              : "Baseline: " + report.baseline) +
                     "\n";
  for (const Report table : reports_of(report)) {
    switch (table) {
      case Report::compare_devices:
        text +=
            "\nGraphs of the timed steps; captures and replays of all steps; time to enqueue over "
            "step time; memory of the fullest rank\n" +
            device_table(report, width);
        break;
      case Report::compare_terms:
        text +=
            "\nWhere the step goes (slowest rank, profiled steps; the terms add up to the p50)\n" +
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
