#include "framework/compare/compare_notes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

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

/// How far the farther end of the bounds lies from waiting or exposed waiting, ns.
double most_clock_error(const PolicyMetrics& metrics) {
  const auto error = [](double waiting, const ClockBounds& bounds) {
    return std::max(bounds.most - waiting, waiting - bounds.least);
  };
  const auto& terms = metrics.decomposition;
  return std::max(error(terms.exposed_waiting, terms.waiting),
                  error(metrics.waiting_ns, metrics.waiting_bounds_ns));
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

}  // namespace

bool has_reasons(const PolicyComparison& policy) {
  return policy.metrics.has_value();
}

std::string label_of(const CompareReport& report, const PolicyComparison& policy) {
  return report.has_several_runs ? policy.run + "/" + policy.result.name : policy.result.name;
}

std::string note_lines(const CompareReport& report) {
  std::string text;
  for (const PolicyComparison& policy : report.policies) {
    if (!policy.note.empty()) {
      text += "note: " + label_of(report, policy) + ": " + policy.note + "\n";
    }
  }
  return text;
}

namespace {

/// How well the clocks of the ranks let waiting and moving be known; empty where nothing is
/// wanting.
std::string clock_line(const CompareReport& report) {
  std::vector<std::string> errors;
  for (const PolicyComparison& policy : report.policies) {
    if (has_reasons(policy) && most_clock_error(*policy.metrics) > 0) {
      errors.push_back(format_ms(most_clock_error(*policy.metrics)) + " ms (" +
                       label_of(report, policy) + ")");
    }
  }
  return errors.empty() ? ""
                        : "By the errors of the ranks' clocks, times of waiting are known to " +
                              join_names(errors) + ", times of moving likewise.\n";
}

}  // namespace

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
  text += clock_line(report);
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

}  // namespace dovetail
