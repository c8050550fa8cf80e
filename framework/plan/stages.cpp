#include "framework/plan/stages.hpp"

#include <algorithm>
#include <array>

#include "framework/base/error.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/plan/dependency.hpp"

namespace dovetail {
namespace {

struct Preset {
  Description description;
  StagesConfig stages;
};

/// Both leave an exchange in flight at the end of a stage and need its rows at the head of a later
/// one, with a large op of another ubatch between. In SGLang's decode strategy there are five cuts,
/// because there an attention is two ops, one beside the dispatch and one beside the combine. Here
/// it is one phase; with four cuts attention and experts of the ubatches alternate, and beside each
/// exchange of two ubatches runs the attention or the experts of the other one.
const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {{"prefill", "2 cuts a layer, behind dispatch and combine; delta 0"},
       {"",
        {{{"attention", ""}, {"route", ""}, {"dispatch", ""}},
         {{"experts", ""}, {"combine", ""}},
         {{"shared_experts", ""}}},
        {{{"attention", ""}, {"mlp", ""}}},
        0}},
      {{"decode",
        "4 cuts a layer, the attention of a ubatch beside the experts of another; delta 2"},
       {"",
        {{{"attention", ""}, {"route", ""}, {"dispatch", ""}, {"shared_experts", ""}},
         {},
         {{"experts", ""}, {"combine", ""}},
         {},
         {}},
        {{{"attention", ""}, {"mlp", ""}}},
        2}},
  };
  return all;
}

const StagesConfig* find_preset(const std::string& name) {
  for (const Preset& preset : presets()) {
    if (preset.description.name == name) {
      return &preset.stages;
    }
  }
  return nullptr;
}

std::vector<std::string_view> phase_names(const std::vector<Phase>& phases) {
  std::vector<std::string_view> all;
  all.reserve(phases.size());
  for (const Phase phase : phases) {
    all.push_back(to_string(phase));
  }
  return all;
}

bool contains(const std::vector<Phase>& phases, Phase phase) {
  return std::find(phases.begin(), phases.end(), phase) != phases.end();
}

Lane default_lane(Phase phase) {
  return is_exchange(phase) ? Lane::comm : Lane::compute;
}

/// The rules of one list of stages, phase by phase.
class ListCheck {
 public:
  ListCheck(std::string name, const LayerShape& layer)
      : name_(std::move(name)), layer_(layer), allowed_(phases_of(layer)) {}

  std::optional<StagesProblem> run(const StageList& stages) {
    for (std::size_t i = 0; i < stages.size(); ++i) {
      for (std::size_t j = 0; j < stages[i].size(); ++j) {
        const std::string message = take(stages[i][j]);
        if (!message.empty()) {
          return StagesProblem{name_ + "[" + std::to_string(i) + "][" + std::to_string(j) + "]",
                               message};
        }
      }
    }
    for (const Phase phase : allowed_) {
      if (!contains(seen_, phase) && phase != Phase::shared_experts) {
        return StagesProblem{name_,
                             std::string(to_string(phase)) +
                                 " is missing; needed, in this order: " + needed_names()};
      }
    }
    return std::nullopt;
  }

 private:
  std::string needed_names() const {
    std::vector<Phase> needed = allowed_;
    std::erase(needed, Phase::shared_experts);
    return join_names(phase_names(needed));
  }

  /// What is wrong with the next phase; "" = nothing.
  std::string take(const StagePhase& item) {
    const auto phase = parse<Phase>(item.phase);
    if (!phase || !contains(allowed_, *phase)) {
      return (phase ? "phase '" : "unknown phase '") + item.phase + "'" +
             (phase ? " is none of these layers" : "") +
             "; allowed: " + join_names(phase_names(allowed_));
    }
    if (contains(seen_, *phase)) {
      return item.phase + " is there twice; allowed: once";
    }
    for (const LayerPhase& needed : data_dependencies({layer_}, {0, *phase}, 1)) {
      if (needed.layer == 0 && !contains(seen_, needed.phase)) {
        return item.phase + " comes before " + std::string(to_string(needed.phase)) +
               ", whose result it needs";
      }
    }
    seen_.push_back(*phase);
    const auto lane = item.lane.empty() ? default_lane(*phase) : parse<Lane>(item.lane);
    if (!lane) {
      return "unknown lane '" + item.lane + "'; allowed: " + join_names(names<Lane>());
    }
    if (*lane == Lane::comm && !is_exchange(*phase)) {
      return item.phase + " on the comm lane; allowed there: dispatch, combine";
    }
    return "";
  }

  std::string name_;
  LayerShape layer_;
  std::vector<Phase> allowed_;
  std::vector<Phase> seen_;
};

std::vector<Stage> make_list(const StageList& list) {
  std::vector<Stage> stages;
  for (const auto& items : list) {
    stages.emplace_back();
    for (const StagePhase& item : items) {
      const Phase phase = parse<Phase>(item.phase).value();
      stages.back().push_back(
          {phase, item.lane.empty() ? default_lane(phase) : parse<Lane>(item.lane).value()});
    }
  }
  return stages;
}

}  // namespace

std::optional<StagesProblem> find_stages_problem(const StagesConfig& config) {
  if (!config.preset.empty()) {
    if (find_preset(config.preset) != nullptr) {
      return std::nullopt;
    }
    std::vector<std::string> known;
    for (const auto& description : stage_presets()) {
      known.push_back(description.name);
    }
    return StagesProblem{"",
                         "unknown preset '" + config.preset + "'; known: " + join_names(known) +
                             ", or stage lists {moe: [...], dense: [...], delta: n}"};
  }
  if (config.delta < 0 || config.delta > kMaxStageDelta) {
    return StagesProblem{
        "delta",
        std::to_string(config.delta) + "; allowed: 0 to " + std::to_string(kMaxStageDelta)};
  }
  if (auto problem = ListCheck("moe", {true, true}).run(config.moe)) {
    return problem;
  }
  return ListCheck("dense", {false, false}).run(config.dense);
}

Stages make_stages(const std::optional<StagesConfig>& config, WorkPhase phase) {
  StagesConfig stated;
  stated.preset = phase == WorkPhase::decode ? "decode" : "prefill";
  if (config) {
    stated = *config;
  }
  if (const auto problem = find_stages_problem(stated)) {
    throw InputError("stages" + (problem->place.empty() ? "" : "." + problem->place) + ": " +
                     problem->message);
  }
  const StagesConfig& stages = stated.preset.empty() ? stated : *find_preset(stated.preset);
  return {make_list(stages.moe), make_list(stages.dense), stages.delta};
}

const std::vector<Description>& stage_presets() {
  static const std::vector<Description> descriptions = [] {
    std::vector<Description> all;
    for (const Preset& preset : presets()) {
      all.push_back(preset.description);
    }
    return all;
  }();
  return descriptions;
}

}  // namespace dovetail
