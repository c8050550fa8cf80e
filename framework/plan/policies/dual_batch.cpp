#include "framework/plan/policies/dual_batch.hpp"

#include <vector>

#include "framework/plan/dependency.hpp"
#include "framework/plan/schedule_builder.hpp"

namespace dovetail {
namespace {

/// What a ubatch does between getting the baton and handing it over.
using Turn = std::vector<LayerPhase>;

std::vector<Turn> turns_of(const std::vector<LayerShape>& layers) {
  std::vector<Turn> turns(1);
  turns.back().push_back({kNoLayer, Phase::embed});
  for (int layer = 0; layer < static_cast<int>(layers.size()); ++layer) {
    for (const Phase phase : phases_of(layers[static_cast<std::size_t>(layer)])) {
      turns.back().push_back({layer, phase});
      if (phase == Phase::dispatch) {
        turns.emplace_back();
      }
    }
    if (layers[static_cast<std::size_t>(layer)].is_moe) {
      turns.emplace_back();
    }
  }
  turns.back().push_back({kNoLayer, Phase::output});
  return turns;
}

}  // namespace

Schedule make_dual_batch(const PolicyInput& input) {
  check_num_ubatches("dual_batch", input.num_ubatches, 2, kMaxUbatches);
  ScheduleBuilder builder("dual_batch", input.model, input.num_ubatches);
  for (const Turn& turn : turns_of(input.model.layers)) {
    for (int ubatch = 0; ubatch < input.num_ubatches; ++ubatch) {
      for (const auto& [layer, phase] : turn) {
        builder.add(phase, layer, ubatch, is_exchange(phase) ? Lane::comm : Lane::compute);
      }
    }
  }
  return builder.finish();
}

}  // namespace dovetail
