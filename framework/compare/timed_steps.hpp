// What a policy's rank files say of its timed steps: times, and what the ranks decided.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "framework/compare/step_kinds.hpp"
#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// What the ranks agreed on, over all timed steps that were finished.
struct DecisionCounts {
  std::int64_t num_steps = 0;
  std::int64_t num_ubatched = 0;
  std::int64_t num_vetoed = 0;
  std::map<std::string, std::int64_t> vetoes_by_reason;

  std::map<std::string, std::int64_t> steps_by_graph;   ///< by GraphMode; none = eager
  std::map<std::string, std::int64_t> eager_by_reason;  ///< empty in a file of version 2
  std::int64_t num_captured = 0;  ///< steps whose graph was captured just before

  /// "below_threshold x 3, rank_veto x 1"; empty without vetoes.
  std::string describe_vetoes() const;
  /// "full x 9, none x 1"; "none" where no step ran as a graph.
  std::string describe_graphs() const;
};

struct TimedSteps {
  /// Of the slowest rank; NaN where a rank has not finished the step. [iterations x steps]
  std::vector<double> ns;
  std::size_t num_steps = 0;         ///< of an iteration
  std::int64_t most_iterations = 0;  ///< that were asked for
  /// "1 of 3 timed steps have no time (the first: rank 1, step 2)"; empty where all have one.
  std::string hole;
  DecisionCounts decisions;
  std::vector<TimedStep> finished;  ///< in the order of time
};

/// Of a folder in which no file is missing. Throws InputError where ranks have different numbers of
/// steps, and where a step has no decision.
TimedSteps read_timed_steps(const PolicyFolder& folder);

}  // namespace dovetail
