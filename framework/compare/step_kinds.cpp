#include "framework/compare/step_kinds.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>

namespace dovetail {
namespace {

constexpr const char* kNone = "none";

/// Of each iteration that has all of the steps, their mean.
std::vector<double> means_of(std::span<const TimedStep> steps,
                             std::int64_t first,
                             std::int64_t last) {
  struct Sum {
    double ns = 0;
    std::int64_t count = 0;
  };

  std::map<std::int64_t, Sum> sums;
  for (const TimedStep& one : steps) {
    if (first <= one.step && one.step <= last) {
      sums[one.iteration].ns += one.ns;
      ++sums[one.iteration].count;
    }
  }
  std::vector<double> means;
  for (const auto& [iteration, sum] : sums) {
    if (sum.count == last - first + 1) {
      means.push_back(sum.ns / static_cast<double>(sum.count));
    }
  }
  return means;
}

/// Whether `next`, a kind of a single step, is shown with the kinds from `first` on.
bool is_alike(const StepKind& first, const StepKind& next) {
  const auto holds = [](const Statistics& range, double median) {
    return range.min <= median && median <= range.max;
  };
  const auto& own = first.step_ns;
  const auto& other = next.step_ns;
  return next.decision == first.decision &&
         (std::abs(other.p50 - own.p50) <= kAlikeSteps * own.p50 ||
          (holds(own, other.p50) && holds(other, own.p50)));
}

}  // namespace

std::string KindDecision::describe() const {
  std::string text = is_ubatched ? "ubatched" : veto == kNone ? "plain" : "vetoed: " + veto;
  if (graph != kNone) {
    text += ", graph " + graph;
  }
  return text + (is_captured ? ", just captured" : "");
}

std::string StepKind::describe_steps() const {
  return std::to_string(first_step) +
         (last_step == first_step ? "" : " to " + std::to_string(last_step));
}

std::vector<StepKind> kinds_of_steps(std::span<const TimedStep> steps) {
  struct Sample {
    KindDecision decision;
    std::vector<double> ns;
  };

  std::map<std::int64_t, std::vector<Sample>> samples;
  for (const TimedStep& one : steps) {
    auto& of_step = samples[one.step];
    auto own = std::find_if(of_step.begin(), of_step.end(), [&](const Sample& sample) {
      return sample.decision == one.decision;
    });
    if (own == of_step.end()) {
      own = of_step.insert(own, {one.decision, {}});
    }
    own->ns.push_back(one.ns);
  }
  std::vector<StepKind> kinds;
  for (auto& [step, of_step] : samples) {
    for (Sample& sample : of_step) {
      kinds.push_back({step, step, sample.decision, statistics(std::move(sample.ns))});
    }
  }
  return kinds;
}

std::vector<StepKind> merged_kinds(std::span<const TimedStep> steps) {
  const auto kinds = kinds_of_steps(steps);
  const auto has_one_decision = [&](std::size_t i) {
    return (i == 0 || kinds[i - 1].first_step != kinds[i].first_step) &&
           (i + 1 == kinds.size() || kinds[i + 1].first_step != kinds[i].first_step);
  };
  std::vector<StepKind> merged;
  for (std::size_t i = 0; i < kinds.size();) {
    std::size_t next = i + 1;
    while (has_one_decision(i) && next < kinds.size() && has_one_decision(next) &&
           kinds[next].first_step == kinds[next - 1].first_step + 1 &&
           is_alike(kinds[i], kinds[next])) {
      ++next;
    }
    merged.push_back(kinds[i]);
    if (next > i + 1) {
      auto& last = merged.back();
      last.last_step = kinds[next - 1].first_step;
      last.step_ns = statistics(means_of(steps, last.first_step, last.last_step));
    }
    i = next;
  }
  return merged;
}

nlohmann::json kinds_json(const std::vector<StepKind>& kinds) {
  auto json = nlohmann::json::array();
  for (const StepKind& kind : kinds) {
    json.push_back({{"steps", {kind.first_step, kind.last_step}},
                    {"decision", kind.decision.describe()},
                    {"ubatched", kind.decision.is_ubatched},
                    {"veto", kind.decision.veto},
                    {"graph", kind.decision.graph},
                    {"captured", kind.decision.is_captured},
                    {"schedule", kind.decision.schedule},
                    {"step_ns", to_json(kind.step_ns)}});
  }
  return json;
}

StepKind read_step_kind(const nlohmann::json& json) {
  return {.first_step = json.at("steps").at(0),
          .last_step = json.at("steps").at(1),
          .decision = {.is_ubatched = json.at("ubatched"),
                       .veto = json.at("veto"),
                       .graph = json.at("graph"),
                       .is_captured = json.at("captured"),
                       .schedule = json.at("schedule")},
          .step_ns = read_statistics(json.at("step_ns"))};
}

}  // namespace dovetail
