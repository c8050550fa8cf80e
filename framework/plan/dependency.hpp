// Which phases a layer has and which phases of a ubatch need which others: the data flow of a
// forward pass, for policies that make schedules and for the check that proves them.
#pragma once

#include <vector>

#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// A phase of one layer (kNoLayer for embed and output), or its part of one group of experts.
struct LayerPhase {
  int layer = kNoLayer;
  Phase phase = Phase::embed;
  int group = kNoGroup;

  friend bool operator==(const LayerPhase&, const LayerPhase&) = default;
};

/// The phases of a layer in the order of the model's own code: attention, mlp; or attention, route,
/// dispatch, experts, combine, and shared_experts where the layer has them.
std::vector<Phase> phases_of(const LayerShape& layer);

/// How many ops a phase of a layer is.
constexpr int num_ops_of(Phase phase, int num_groups) {
  return has_groups(phase) ? num_groups : 1;
}

/// The phases that must be done in the same ubatch before `what` may start: its direct inputs. All
/// other orders within a ubatch follow from these. Where experts are cut into groups, the parts of
/// a phase have ascending order: a row that a group needs comes with the first group that needs it,
/// a partial sum goes back with the last group that adds to it.
std::vector<LayerPhase> data_dependencies(const std::vector<LayerShape>& layers,
                                          LayerPhase what,
                                          int num_groups);

}  // namespace dovetail
