// Which phases a layer has and which phases of a ubatch need which others: the data flow of a
// forward pass, for policies that make schedules and for the check that proves them.
#pragma once

#include <vector>

#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// A phase of one layer (kNoLayer for embed and output).
struct LayerPhase {
  int layer = kNoLayer;
  Phase phase = Phase::embed;

  friend bool operator==(const LayerPhase&, const LayerPhase&) = default;
};

/// The phases of a layer in the order of the model's own code: attention, mlp; or attention, route,
/// dispatch, experts, combine, and shared_experts where the layer has them.
std::vector<Phase> phases_of(const LayerShape& layer);

/// The phases that must be done in the same ubatch before `what` may start: its direct inputs. All
/// other orders within a ubatch follow from these.
std::vector<LayerPhase> data_dependencies(const std::vector<LayerShape>& layers, LayerPhase what);

}  // namespace dovetail
