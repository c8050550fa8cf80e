#include "framework/compare/compare_notes.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/flags.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

using Lines = std::vector<std::string>;

/// How far the farther end of the bounds lies from waiting or exposed waiting, ns.
double most_clock_error(const PolicyMetrics& metrics) {
  const auto error = [](double waiting, const ClockBounds& bounds) {
    return std::max(bounds.most - waiting, waiting - bounds.least);
  };
  const auto& terms = metrics.decomposition;
  return std::max(error(terms.exposed_waiting, terms.waiting),
                  error(metrics.waiting_ns, metrics.waiting_bounds_ns));
}

/// The policies of which that is true, "a, b"; empty: none.
std::string labels_where(const CompareReport& report,
                         const std::function<bool(const PolicyComparison&)>& is_so) {
  Lines labels;
  for (const PolicyComparison& policy : report.policies) {
    if (is_so(policy)) {
      labels.push_back(label_of(report, policy));
    }
  }
  return join_names(labels);
}

std::string flagged(const CompareReport& report, Flag flag) {
  return labels_where(report, [flag](const auto& policy) { return has_flag(policy, flag); });
}

/// `before` + `middle` + `after`, where there is something in the middle.
void add_line(Lines& lines,
              const std::string& before,
              const std::string& middle,
              const std::string& after) {
  if (!middle.empty()) {
    lines.push_back(before + middle + after);
  }
}

/// How well the clocks of the ranks let waiting and moving be known.
void add_clock_line(const CompareReport& report, Lines& lines) {
  Lines errors;
  for (const PolicyComparison& policy : report.policies) {
    if (has_reasons(policy) && most_clock_error(*policy.metrics) > 0) {
      errors.push_back(format_ms(most_clock_error(*policy.metrics)) + " ms (" +
                       label_of(report, policy) + ")");
    }
  }
  add_line(lines,
           "By the errors of the ranks' clocks, times of waiting are known to ",
           join_names(errors),
           ", times of moving likewise.");
}

/// "4.1 % of the p50 (two, mostly experts)", of the policies that have the flag and of whose terms
/// `term` has something to say.
template <class Term, class Remark>
std::string large_terms(const CompareReport& report, Flag flag, Term term, Remark remark) {
  Lines large;
  for (const PolicyComparison& policy : report.policies) {
    if (!has_flag(policy, flag)) {
      continue;
    }
    if (const std::optional<double> ns = term(policy.metrics->decomposition)) {
      large.push_back(format_percent(share_of_p50(policy, *ns)) + " of the p50 (" +
                      label_of(report, policy) + remark(*policy.metrics) + ")");
    }
  }
  return join_names(large);
}

/// Whether profiled steps were slower than those beside them by more than the error of that.
bool is_slowed(const Decomposition& terms) {
  return -*terms.recording > terms.recording_error.value_or(0);
}

/// What recording adds, of the policies where that is known (`is_known`), or of the others.
std::string recordings(const CompareReport& report, bool is_known) {
  const auto added = [is_known](const Decomposition& terms) {
    return is_slowed(terms) == is_known ? std::optional(-*terms.recording) : std::nullopt;
  };
  const auto error = [](const PolicyMetrics& metrics) {
    const auto& terms = metrics.decomposition;
    const auto share = terms.recording_error.value_or(0) / terms.measured;
    return terms.recording_error ? ", +- " + format_percent(share) : "";
  };
  return large_terms(report, Flag::recording, added, error);
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
void add_term_lines(const CompareReport& report, Lines& lines) {
  const auto nothing = [](const PolicyMetrics&) { return std::string(); };
  add_line(lines,
           "Unexplained is ",
           large_terms(
               report,
               Flag::unexplained,
               [](const auto& terms) { return terms.unexplained; },
               main_phase),
           ": so much longer (below 0: shorter) ops neither beside nor behind an exchange take "
           "than in the compute-only pass");
  add_line(lines, "Recording adds ", recordings(report, true), " to profiled steps");
  add_line(lines,
           "What recording adds is lost in noise: ",
           recordings(report, false),
           "; the terms are no surer than that");
  add_line(lines,
           "The p50 differs by ",
           large_terms(
               report,
               Flag::timed_vs_profiled,
               [](const auto& terms) { return terms.timed_vs_profiled; },
               nothing),
           " from the steps beside the profiled ones, which the terms are of");
  for (const PolicyComparison& policy : report.policies) {
    if (has_reasons(policy) && policy.metrics->num_not_held > 0) {
      lines.push_back("Launch gaps of " + label_of(report, policy) + ": those of " +
                      std::to_string(policy.metrics->num_not_held) + " of " +
                      counted(policy.metrics->num_held + policy.metrics->num_not_held, "op") +
                      " are not known and stay in compute");
    }
  }
}

/// Where the policy is not run as the baseline is.
void add_execution_lines(const CompareReport& report, Lines& lines) {
  const auto described = [&](const PolicyComparison& policy) {
    const auto& other = policy.other_execution;
    return label_of(report, policy) + (other.empty() ? "" : " (" + other + ")");
  };
  Lines others;
  Lines below;
  for (const PolicyComparison& policy : report.policies) {
    if (has_flag(policy, Flag::other_execution)) {
      others.push_back(described(policy));
    }
    if (has_flag(policy, Flag::below_ideal)) {
      below.push_back(described(policy));
    }
  }
  add_line(lines,
           "Split tax and comm split hold another difference from the baseline, too: ",
           join_names(others),
           "");
  add_line(lines,
           "Faster than the ideal: the p50 of ",
           join_names(below),
           ". The ideal holds for the graph mode and the exchange of the baseline, and is known as "
           "well as its profiled steps are");
}

/// What is missing, and how to get it.
Lines advice_of(const CompareReport& report) {
  Lines lines;
  add_line(lines,
           "Not read whole: ",
           labels_where(report, [](const auto& policy) { return !policy.result.is_read(); }),
           "; files are missing or damaged, the notes say which (exit code 2)");
  add_line(lines,
           "Where the step goes is not known of ",
           labels_where(report,
                        [](const auto& policy) {
                          return policy.result.is_complete() && !has_reasons(policy);
                        }),
           ": no op was timed. To time ops, run again with --set record.timing=ops");
  return lines;
}

std::size_t num_comparisons(const CompareReport& report) {
  return static_cast<std::size_t>(
      std::count_if(report.policies.begin(), report.policies.end(), [](const auto& policy) {
        return policy.counts.has_value();
      }));
}

std::string joined(const Lines& lines) {
  std::string text;
  for (const auto& line : lines) {
    text += line + "\n";
  }
  return text;
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
    if (!policy.notes.empty()) {
      text += "note: " + label_of(report, policy) + ": " + policy.note() + "\n";
    }
  }
  return text;
}

std::vector<std::string> warnings_of(const CompareReport& report) {
  Lines lines;
  add_clock_line(report, lines);
  add_term_lines(report, lines);
  add_execution_lines(report, lines);
  add_line(lines,
           "Not explained: in ",
           flagged(report, Flag::not_explained),
           " what is unexplained is larger than what the step time differs from the baseline's. "
           "The terms do not say why it is slower or faster; run again on a quieter machine");
  add_line(lines,
           "Not quiet: in ",
           flagged(report, Flag::not_quiet),
           " split tax or contention is far below zero, so profiled steps of the baseline were "
           "slowed down; run again on a quiet machine");
  return lines;
}

std::string chance_line(std::size_t num_comparisons) {
  if (num_comparisons < 2) {
    return "";
  }
  constexpr double outside = 0.05;
  const double expected = outside * static_cast<double>(num_comparisons);
  return std::to_string(num_comparisons) +
         " comparisons, each right in 95 of 100 runs: were all policies equally fast, " +
         (expected < 1 ? "one false difference in " + format_fixed(1 / expected, 1) + " such runs"
                       : format_fixed(expected, 1) + " false differences in each such run") +
         " would be expected by chance\n";
}

std::string closing_lines(const CompareReport& report) {
  return "\nNot in the step time: agreement of the ranks, preparation of inputs, warm-up, capture "
         "of graphs, hashing, recording.\n" +
         chance_line(num_comparisons(report)) + joined(warnings_of(report)) +
         joined(advice_of(report)) + "What a column means: dovetail compare --explain [COLUMN]\n";
}

std::vector<std::string> notes_of(const CompareReport& report, bool with_advice) {
  Lines notes;
  for (const PolicyComparison& policy : report.policies) {
    for (const std::string& note : policy.notes) {
      notes.push_back(label_of(report, policy) + ": " + note);
    }
  }
  const auto append = [&](Lines lines) {
    std::move(lines.begin(), lines.end(), std::back_inserter(notes));
  };
  if (auto line = chance_line(num_comparisons(report)); !line.empty()) {
    line.pop_back();
    notes.push_back(std::move(line));
  }
  append(warnings_of(report));
  append(with_advice ? advice_of(report) : Lines());
  return notes;
}

}  // namespace dovetail
