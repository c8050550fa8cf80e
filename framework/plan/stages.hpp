// Stage lists: where the layers of a model are cut, for the policy `staged`; the presets and the
// rules that lists of one's own must meet.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/types.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// A phase that a stage enqueues, or its part of one group of experts, on its lane.
struct StagedPhase {
  Phase phase = Phase::attention;
  Lane lane = Lane::compute;
  int group = kNoGroup;

  friend bool operator==(const StagedPhase&, const StagedPhase&) = default;
};

using Stage = std::vector<StagedPhase>;

/// Stage lists of the two kinds of layers. A ubatch hands over between the lists of a layer; the
/// last list of a layer and the first of the next are one stage, so n lists are n - 1 cuts a layer.
/// An empty list is legal: at the end it is a cut behind the layer, elsewhere a turn in which the
/// ubatch enqueues nothing.
struct Stages {
  std::vector<Stage> moe;
  std::vector<Stage> dense;
  int delta = 0;  ///< ubatch u starts u * delta stages late

  friend bool operator==(const Stages&, const Stages&) = default;
};

/// What is wrong with stage lists, and where in them: "moe[1][0]", "dense", or "" = the whole.
struct StagesProblem {
  std::string place;
  std::string message;
};

/// The first broken rule: an unknown preset, phase, group or lane; a phase of another kind of
/// layer, named twice, before one whose result it needs, or forgotten (shared_experts may be left
/// out: not all models have them); the comm lane for anything but dispatch and combine; delta out
/// of range.
///
/// Where experts are cut into `num_groups`, dispatch, experts and combine are as many ops each.
/// "experts g1" is one of them; a name without a group is all of them, in ascending order, and
/// experts with a combine right behind them go group by group.
std::optional<StagesProblem> find_stages_problem(const StagesConfig& config, int num_groups = 1);

/// The stages that an experiment states; nothing = the preset of the phase of work: decode for
/// decode, prefill for prefill and mixed. Throws InputError "stages.<place>: ..." for a problem.
Stages make_stages(const std::optional<StagesConfig>& config, WorkPhase phase, int num_groups = 1);

/// Names with a line on each, for `dovetail info`.
const std::vector<Description>& stage_presets();

}  // namespace dovetail
