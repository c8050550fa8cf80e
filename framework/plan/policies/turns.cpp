#include "framework/plan/policies/turns.hpp"

#include <vector>

#include "framework/plan/dependency.hpp"
#include "framework/plan/schedule_builder.hpp"

namespace dovetail {
namespace {

/// What a ubatch does between getting the baton and handing it over.
using Turn = std::vector<LayerPhase>;

class Turns {
 public:
  explicit Turns(const PolicyInput& input) : input_(input), turns_(1) {}

  std::vector<Turn> make() {
    add({kNoLayer, Phase::embed});
    for (int layer = 0; layer < input_.model.num_layers(); ++layer) {
      const LayerShape& shape = input_.model.layers[static_cast<std::size_t>(layer)];
      add({layer, Phase::attention});
      if (shape.is_moe) {
        add_moe(layer, shape);
      } else {
        add({layer, Phase::mlp});
      }
    }
    add({kNoLayer, Phase::output});
    return turns_;
  }

 private:
  void add(const LayerPhase& what) { turns_.back().push_back(what); }

  void add_moe(int layer, const LayerShape& shape) {
    const bool has_one_ubatch = input_.num_ubatches == 1;
    add({layer, Phase::route});
    for (int i = 0; i < input_.num_groups; ++i) {
      add({layer, Phase::dispatch, group_at(i, input_.num_groups)});
    }
    if (shape.has_shared_experts && has_one_ubatch) {
      add({layer, Phase::shared_experts});
    }
    turns_.emplace_back();
    for (int i = 0; i < input_.num_groups; ++i) {
      add({layer, Phase::experts, group_at(i, input_.num_groups)});
      add({layer, Phase::combine, group_at(i, input_.num_groups)});
    }
    if (shape.has_shared_experts && !has_one_ubatch) {
      add({layer, Phase::shared_experts});
    }
    turns_.emplace_back();
  }

  const PolicyInput& input_;
  std::vector<Turn> turns_;
};

}  // namespace

Schedule make_turns(const std::string& name, const PolicyInput& input) {
  ScheduleBuilder builder(name, input.model, input.num_ubatches, input.num_groups);
  for (const Turn& turn : Turns(input).make()) {
    for (int ubatch = 0; ubatch < input.num_ubatches; ++ubatch) {
      for (const auto& [layer, phase, group] : turn) {
        builder.add(phase, layer, ubatch, is_exchange(phase) ? Lane::comm : Lane::compute, group);
      }
    }
  }
  return builder.finish();
}

}  // namespace dovetail
