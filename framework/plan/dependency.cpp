#include "framework/plan/dependency.hpp"

namespace dovetail {
namespace {

/// What makes the hidden states that layer `layer` reads (the number of layers: what `output`
/// reads).
std::vector<LayerPhase> makers_of_input(const std::vector<LayerShape>& layers, int layer) {
  if (layer == 0) {
    return {{kNoLayer, Phase::embed}};
  }
  const int before = layer - 1;
  const LayerShape& shape = layers.at(static_cast<std::size_t>(before));
  if (!shape.is_moe) {
    return {{before, Phase::mlp}};
  }
  if (shape.has_shared_experts) {
    return {{before, Phase::combine}, {before, Phase::shared_experts}};
  }
  return {{before, Phase::combine}};
}

}  // namespace

std::vector<Phase> phases_of(const LayerShape& layer) {
  if (!layer.is_moe) {
    return {Phase::attention, Phase::mlp};
  }
  std::vector<Phase> phases = {
      Phase::attention, Phase::route, Phase::dispatch, Phase::experts, Phase::combine};
  if (layer.has_shared_experts) {
    phases.push_back(Phase::shared_experts);
  }
  return phases;
}

std::vector<LayerPhase> data_dependencies(const std::vector<LayerShape>& layers, LayerPhase what) {
  switch (what.phase) {
    case Phase::embed:
      return {};
    case Phase::attention:
      return makers_of_input(layers, what.layer);
    case Phase::route:
    case Phase::mlp:
      return {{what.layer, Phase::attention}};
    case Phase::dispatch:
    case Phase::shared_experts:
      return {{what.layer, Phase::route}};
    case Phase::experts:
      return {{what.layer, Phase::dispatch}};
    case Phase::combine:
      return {{what.layer, Phase::experts}};
    case Phase::output:
      return makers_of_input(layers, static_cast<int>(layers.size()));
  }
  return {};
}

}  // namespace dovetail
