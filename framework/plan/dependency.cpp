#include "framework/plan/dependency.hpp"

namespace dovetail {
namespace {

/// What makes the hidden states that layer `layer` reads (the number of layers: what `output`
/// reads).
std::vector<LayerPhase> makers_of_input(const std::vector<LayerShape>& layers,
                                        int layer,
                                        int num_groups) {
  if (layer == 0) {
    return {{kNoLayer, Phase::embed}};
  }
  const int before = layer - 1;
  const LayerShape& shape = layers.at(static_cast<std::size_t>(before));
  if (!shape.is_moe) {
    return {{before, Phase::mlp}};
  }
  const int last = group_at(num_groups - 1, num_groups);
  if (shape.has_shared_experts) {
    return {{before, Phase::combine, last}, {before, Phase::shared_experts}};
  }
  return {{before, Phase::combine, last}};
}

/// `input` of the same group, and where there is an earlier group, that part of the phase itself.
std::vector<LayerPhase> with_earlier_group(LayerPhase what, std::vector<LayerPhase> input) {
  if (what.group > 0) {
    input.push_back({what.layer, what.phase, what.group - 1});
  }
  return input;
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

std::vector<LayerPhase> data_dependencies(const std::vector<LayerShape>& layers,
                                          LayerPhase what,
                                          int num_groups) {
  switch (what.phase) {
    case Phase::embed:
      return {};
    case Phase::attention:
      return makers_of_input(layers, what.layer, num_groups);
    case Phase::route:
    case Phase::mlp:
      return {{what.layer, Phase::attention}};
    case Phase::shared_experts:
      return {{what.layer, Phase::route}};
    case Phase::dispatch:
      if (what.group > 0) {
        return {{what.layer, Phase::dispatch, what.group - 1}};
      }
      return {{what.layer, Phase::route}};
    case Phase::experts:
      return with_earlier_group(what, {{what.layer, Phase::dispatch, what.group}});
    case Phase::combine:
      return with_earlier_group(what, {{what.layer, Phase::experts, what.group}});
    case Phase::output:
      return makers_of_input(layers, static_cast<int>(layers.size()), num_groups);
  }
  return {};
}

}  // namespace dovetail
