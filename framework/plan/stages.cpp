#include "framework/plan/stages.hpp"

#include <algorithm>
#include <array>

#include "framework/base/error.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/plan/dependency.hpp"
#include "framework/plan/listed_ops.hpp"

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

/// The rules of one list of stages, op by op.
class ListCheck {
 public:
  ListCheck(std::string name, const LayerShape& layer, int num_groups)
      : name_(std::move(name)),
        layer_(layer),
        num_groups_(num_groups),
        allowed_(phases_of(layer)) {}

  std::optional<StagesProblem> run(const StageList& stages) {
    for (std::size_t i = 0; i < stages.size(); ++i) {
      if (auto problem = check_stage(stages[i], i)) {
        return problem;
      }
    }
    for (const Phase phase : allowed_) {
      for (int i = 0; i < num_ops_of(phase, num_groups_); ++i) {
        const int group = has_groups(phase) ? group_at(i, num_groups_) : kNoGroup;
        if (!has_seen({0, phase, group}) && phase != Phase::shared_experts) {
          return StagesProblem{
              name_,
              name_of(phase, group) + " is missing; needed, in this order: " + needed_names()};
        }
      }
    }
    return std::nullopt;
  }

 private:
  std::optional<StagesProblem> check_stage(const std::vector<StagePhase>& stage, std::size_t i) {
    const auto problem_at = [&](std::size_t item, const std::string& message) {
      return StagesProblem{name_ + "[" + std::to_string(i) + "][" + std::to_string(item) + "]",
                           message};
    };
    // What comes first in the list is told first.
    std::vector<StagePhase> known;
    std::string unknown;
    for (const StagePhase& item : stage) {
      unknown = check_names(item);
      if (!unknown.empty()) {
        break;
      }
      known.push_back(item);
    }
    for (const ListedOp& op : ops_of(known, num_groups_)) {
      const auto message = take(op);
      if (!message.empty()) {
        return problem_at(op.item, message);
      }
      const auto lane = check_lane(known[op.item], op.phase);
      if (!lane.empty()) {
        return problem_at(op.item, lane);
      }
    }
    return unknown.empty() ? std::nullopt : std::optional(problem_at(known.size(), unknown));
  }

  std::string needed_names() const {
    std::vector<Phase> needed = allowed_;
    std::erase(needed, Phase::shared_experts);
    return join_names(phase_names(needed));
  }

  bool has_seen(const LayerPhase& op) const {
    return std::find(seen_.begin(), seen_.end(), op) != seen_.end();
  }

  /// What is wrong with a phase's name or its group's; "" = nothing.
  std::string check_names(const StagePhase& item) const {
    const NamedPhase named(item.phase);
    const auto phase = named.phase();
    if (!phase || !contains(allowed_, *phase)) {
      return (phase ? "phase '" : "unknown phase '") + named.name + "'" +
             (phase ? " is none of these layers" : "") +
             "; allowed: " + join_names(phase_names(allowed_));
    }
    if (named.group_text.empty() && item.phase == named.name) {
      return "";
    }
    if (!has_groups(*phase)) {
      return "group '" + named.group_text + "' of " + named.name +
             "; allowed: of dispatch, experts and combine";
    }
    if (!named.group(num_groups_)) {
      return "group '" + named.group_text + "' of " + named.name + "; allowed: g0" +
             (num_groups_ == 1 ? " (groups: 1)" : " to g" + std::to_string(num_groups_ - 1));
    }
    return "";
  }

  static std::string check_lane(const StagePhase& item, Phase phase) {
    const auto lane = item.lane.empty() ? default_lane(phase) : parse<Lane>(item.lane);
    if (!lane) {
      return "unknown lane '" + item.lane + "'; allowed: " + join_names(names<Lane>());
    }
    if (*lane == Lane::comm && !is_exchange(phase)) {
      return std::string(to_string(phase)) + " on the comm lane; allowed there: dispatch, combine";
    }
    return "";
  }

  /// What is wrong with the next op; "" = nothing.
  std::string take(const ListedOp& op) {
    const LayerPhase what = {0, op.phase, op.group};
    const auto name = name_of(op.phase, op.group);
    if (has_seen(what)) {
      return name + " is there twice; allowed: once";
    }
    for (const LayerPhase& needed : data_dependencies({layer_}, what, num_groups_)) {
      if (needed.layer == 0 && !has_seen(needed)) {
        return name + " comes before " + name_of(needed.phase, needed.group) +
               (needed.phase == op.phase ? "; groups go in ascending order"
                                         : ", whose result it needs");
      }
    }
    seen_.push_back(what);
    return "";
  }

  std::string name_;
  LayerShape layer_;
  int num_groups_;
  std::vector<Phase> allowed_;
  std::vector<LayerPhase> seen_;
};

std::vector<Stage> make_list(const StageList& list, int num_groups) {
  std::vector<Stage> stages;
  for (const auto& items : list) {
    stages.emplace_back();
    for (const auto& [item, phase, group] : ops_of(items, num_groups)) {
      const auto& lane = items[item].lane;
      stages.back().push_back(
          {phase, lane.empty() ? default_lane(phase) : parse<Lane>(lane).value(), group});
    }
  }
  return stages;
}

}  // namespace

std::optional<StagesProblem> find_stages_problem(const StagesConfig& config, int num_groups) {
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
  if (auto problem = ListCheck("moe", {true, true}, num_groups).run(config.moe)) {
    return problem;
  }
  return ListCheck("dense", {false, false}, num_groups).run(config.dense);
}

Stages make_stages(const std::optional<StagesConfig>& config, WorkPhase phase, int num_groups) {
  StagesConfig stated;
  stated.preset = phase == WorkPhase::decode ? "decode" : "prefill";
  if (config) {
    stated = *config;
  }
  if (const auto problem = find_stages_problem(stated, num_groups)) {
    throw InputError("stages" + (problem->place.empty() ? "" : "." + problem->place) + ": " +
                     problem->message);
  }
  const StagesConfig& stages = stated.preset.empty() ? stated : *find_preset(stated.preset);
  return {make_list(stages.moe, num_groups), make_list(stages.dense, num_groups), stages.delta};
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
