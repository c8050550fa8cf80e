#include "framework/compare/compare_notes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
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
  return difference > 0 && std::abs(terms.unexplained) > difference;
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

/// Of the p50: what may stay unexplained, the recording may cost, and steps beside profiled ones
/// may differ by.
constexpr double kMostUnexplained = 0.03;
constexpr double kMostRecording = 0.01;
constexpr double kMostOther = 0.03;

/// "4.1 % of the p50 (two, mostly experts)", of policies where a term is larger than `most`.
template <class Term, class Remark>
std::string large_terms(const CompareReport& report, double most, Term term, Remark remark) {
  std::vector<std::string> large;
  for (const PolicyComparison& policy : report.policies) {
    if (has_reasons(policy)) {
      const auto& terms = policy.metrics->decomposition;
      const double share = term(terms) / terms.measured;
      if (std::abs(share) > most) {
        large.push_back(format_percent(share) + " of the p50 (" + label_of(report, policy) +
                        remark(*policy.metrics) + ")");
      }
    }
  }
  return join_names(large);
}

/// The phase that most of the unexplained is of.
std::string main_phase(const PolicyMetrics& metrics) {
  const double sign = metrics.decomposition.unexplained < 0 ? -1 : 1;
  const auto& phases = metrics.unexplained_by_phase_ns;
  const auto most = std::max_element(phases.begin(), phases.end(), [&](auto& one, auto& other) {
    return sign * one.second < sign * other.second;
  });
  return most == phases.end() || sign * most->second <= 0 ? "" : ", mostly " + most->first;
}

/// Where the terms are to be taken with care.
std::string term_lines(const CompareReport& report) {
  const auto nothing = [](const PolicyMetrics&) { return std::string(); };
  const auto unexplained = large_terms(
      report, kMostUnexplained, [](const auto& terms) { return terms.unexplained; }, main_phase);
  const auto recording = large_terms(
      report,
      kMostRecording,
      [](const auto& terms) { return std::max(0.0, -terms.recording.value_or(0)); },
      nothing);
  const auto other = large_terms(
      report, kMostOther, [](const auto& terms) { return terms.timed_vs_profiled; }, nothing);
  std::string text;
  if (!unexplained.empty()) {
    text +=
        "Unexplained is " + unexplained +
        ": so much longer (below 0: shorter) ops neither beside nor behind an exchange take than "
        "in the compute-only pass\n";
  }
  if (!recording.empty()) {
    text += "Recording adds " + recording + " to profiled steps\n";
  }
  if (!other.empty()) {
    text += "The p50 differs by " + other +
            " from the steps beside the profiled ones, which the terms are of\n";
  }
  for (const PolicyComparison& policy : report.policies) {
    if (has_reasons(policy) && policy.metrics->num_not_held > 0) {
      text += "Launch gaps of " + label_of(report, policy) + ": those of " +
              std::to_string(policy.metrics->num_not_held) + " of " +
              counted(policy.metrics->num_held + policy.metrics->num_not_held, "op") +
              " are not known and stay in compute\n";
    }
  }
  return text;
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
      "\nNot in the step time: agreement of the ranks, preparation of inputs, warm-up, capture of "
      "graphs, hashing, recording.\n";
  text += clock_line(report);
  text += term_lines(report);
  if (!not_read.empty()) {
    text += "Not read whole: " + join_names(not_read) +
            "; files are missing or damaged, the notes say which (exit code 2)\n";
  }
  if (!without_reasons.empty()) {
    text += "Where the step goes is not known of " + join_names(without_reasons) +
            ": no op was timed. To time ops, run again with --set record.timing=ops\n";
  }
  if (!unexplained.empty()) {
    text +=
        "Not explained: in " + join_names(unexplained) +
        " what is unexplained is larger than what the step time differs from the baseline's. The "
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
