#include "framework/compare/timed_steps.hpp"

#include <algorithm>
#include <cmath>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

std::vector<std::vector<std::int64_t>> read_step_times(const PolicyFolder& folder) {
  std::vector<std::vector<std::int64_t>> all;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    auto values = file.read<std::int64_t>(path::kStepNs).values;
    const auto end = file.timed_iterations() * file.shape(path::kStepNs).at(1);
    if (std::any_of(values.begin() + end, values.end(), [](auto ns) { return ns >= 0; })) {
      throw InputError(file.path().string() + ": " + path::kStepNs +
                       " has times behind iteration " + std::to_string(file.timed_iterations()) +
                       ", the last one");
    }
    values.resize(static_cast<std::size_t>(end));
    all.push_back(std::move(values));
    if (all.back().size() != all.front().size()) {
      throw InputError(folder.rank(rank).path().string() + ": " + path::kStepNs + " has " +
                       counted(std::ssize(all.back()), "step") + " against " +
                       std::to_string(all.front().size()) + " on rank 0");
    }
  }
  return all;
}

/// "1 of 3 timed steps have no time (the first: rank 1, step 2)"; empty where all have one.
std::string describe_hole(const std::vector<std::vector<std::int64_t>>& step_ns) {
  std::size_t missing = 0;
  std::string first;
  const std::size_t num_steps = step_ns.front().size();
  for (std::size_t step = 0; step < num_steps; ++step) {
    const auto rank = std::find_if(
        step_ns.begin(), step_ns.end(), [&](const auto& times) { return times[step] < 0; });
    if (rank != step_ns.end() && ++missing == 1) {
      first = "rank " + std::to_string(rank - step_ns.begin()) + ", step " + std::to_string(step);
    }
  }
  return missing == 0 ? ""
                      : std::to_string(missing) + " of " + std::to_string(num_steps) +
                            " timed steps have no time (the first: " + first + ")";
}

/// /timing/decision of a rank: on all of them the same.
class Decisions {
 public:
  explicit Decisions(const RankFile& file)
      : path_(file.path().string()),
        table_(file.read<std::int64_t>(path::kDecision).values),
        columns_(static_cast<std::size_t>(num_decision_columns(file.schema_version()))) {
    if (table_.size() != file.read<std::int64_t>(path::kStepNs).values.size() * columns_) {
      throw InputError(path_ + ": " + path::kDecision + " has not one row of " +
                       std::to_string(columns_) + " for each step");
    }
    for (const ScheduleRecord& schedule : file.schedules()) {
      schedules_.push_back(schedule.name);
    }
  }

  void count(std::size_t step, DecisionCounts& counts) const {
    const std::int64_t* row = row_of(step);
    ++counts.num_steps;
    counts.num_ubatched += row[0] == 1 ? 1 : 0;
    if (row[3] > 0) {
      ++counts.num_vetoed;
      ++counts.vetoes_by_reason[std::string(to_string(static_cast<VetoReason>(row[3])))];
    }
    ++counts.steps_by_graph[std::string(to_string(static_cast<GraphMode>(row[1])))];
    if (has_captures()) {
      if (row[5] > 0) {
        ++counts.eager_by_reason[std::string(to_string(static_cast<EagerReason>(row[5])))];
      }
      counts.num_captured += row[6] == 1 ? 1 : 0;
    }
  }

  KindDecision at(std::size_t step) const {
    const std::int64_t* row = row_of(step);
    if (row[2] < 0 || row[2] >= std::ssize(schedules_)) {
      throw InputError(path_ + ": " + path::kDecision + " names schedule " +
                       std::to_string(row[2]) + " of " + std::to_string(schedules_.size()));
    }
    return {.is_ubatched = row[0] == 1,
            .veto = std::string(to_string(static_cast<VetoReason>(row[3]))),
            .graph = std::string(to_string(static_cast<GraphMode>(row[1]))),
            .is_captured = has_captures() && row[6] == 1,
            .schedule = schedules_[static_cast<std::size_t>(row[2])]};
  }

 private:
  bool has_captures() const { return columns_ > 5; }

  const std::int64_t* row_of(std::size_t step) const { return table_.data() + step * columns_; }

  std::string path_;
  std::vector<std::int64_t> table_;
  std::size_t columns_;
  std::vector<std::string> schedules_;
};

std::string describe_counts(const std::map<std::string, std::int64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    text += (text.empty() ? "" : ", ") + name + " x " + std::to_string(count);
  }
  return text;
}

}  // namespace

std::string DecisionCounts::describe_vetoes() const {
  return describe_counts(vetoes_by_reason);
}

std::string DecisionCounts::describe_graphs() const {
  const std::string none(to_string(GraphMode::none));
  const bool all_eager = steps_by_graph.empty() ||
                         (steps_by_graph.size() == 1 && steps_by_graph.begin()->first == none);
  return all_eager ? none : describe_counts(steps_by_graph);
}

TimedSteps read_timed_steps(const PolicyFolder& folder) {
  const auto step_ns = read_step_times(folder);
  const Decisions decisions(folder.rank(0));
  TimedSteps steps;
  steps.most_iterations = folder.rank(0).shape(path::kStepNs).at(0);
  steps.ns = slowest_ranks(step_ns);
  steps.num_steps = static_cast<std::size_t>(folder.rank(0).shape(path::kStepNs).at(1));
  steps.hole = describe_hole(step_ns);
  for (std::size_t i = 0; i < steps.ns.size(); ++i) {
    if (step_ns.front()[i] >= 0) {
      decisions.count(i, steps.decisions);
    }
    if (std::isfinite(steps.ns[i])) {
      steps.finished.push_back({.iteration = static_cast<std::int64_t>(i / steps.num_steps),
                                .step = static_cast<std::int64_t>(i % steps.num_steps),
                                .ns = steps.ns[i],
                                .decision = decisions.at(i)});
    }
  }
  return steps;
}

}  // namespace dovetail
