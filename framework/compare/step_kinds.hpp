// Step times by kind: steps of an iteration that stand at different places, or that the ranks
// decided differently on, are never in one statistic.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "framework/compare/statistics.hpp"

namespace dovetail {

/// What decides how a step runs; from a row of /timing/decision.
struct KindDecision {
  bool is_ubatched = false;
  std::string veto = "none";   ///< why it is not; "none"
  std::string graph = "none";  ///< how it ran: none = eager
  bool is_captured = false;    ///< its graph was captured just before it
  std::string schedule;

  friend bool operator==(const KindDecision&, const KindDecision&) = default;

  /// "ubatched", "plain", "vetoed: below_threshold"; of a graph also ", graph full" and ", just
  /// captured".
  std::string describe() const;
};

/// A timed step that all ranks have finished.
struct TimedStep {
  std::int64_t iteration = 0;
  std::int64_t step = 0;  ///< of the iteration
  double ns = 0;          ///< of the slowest rank
  KindDecision decision;
};

/// Steps that may be in one statistic.
struct StepKind {
  std::int64_t first_step = 0;  ///< of an iteration
  std::int64_t last_step = 0;
  KindDecision decision;
  Statistics step_ns;  ///< over iterations: of several steps their mean in each iteration

  /// "3", "3 to 18".
  std::string describe_steps() const;
};

/// By step of an iteration, then by decision, each where it first appears. `steps`: in the order of
/// time. Pure.
std::vector<StepKind> kinds_of_steps(std::span<const TimedStep> steps);

/// How far the medians of steps that are shown as one kind may lie apart, unless they scatter more.
inline constexpr double kAlikeSteps = 0.1;

/// For people: neighbouring steps as one kind, where each of them had the same single decision in
/// all iterations, and its times do not differ from those of the first of them: medians within
/// kAlikeSteps, or each within the other's range. Pure.
std::vector<StepKind> merged_kinds(std::span<const TimedStep> steps);

/// A list. The other way throws nlohmann::json::exception where a field is missing.
nlohmann::json kinds_json(const std::vector<StepKind>& kinds);
StepKind read_step_kind(const nlohmann::json& json);

}  // namespace dovetail
