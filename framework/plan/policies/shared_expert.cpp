#include "framework/plan/policies/shared_expert.hpp"

#include "framework/plan/schedule_builder.hpp"

namespace dovetail {

Schedule make_shared_expert(const PolicyInput& input) {
  check_num_ubatches("shared_expert", input.num_ubatches, 1, 1);
  ScheduleBuilder builder("shared_expert", input.model, 1);
  builder.add(Phase::embed, kNoLayer, 0);
  for (int layer = 0; layer < input.model.num_layers(); ++layer) {
    const LayerShape& shape = input.model.layers[static_cast<std::size_t>(layer)];
    builder.add(Phase::attention, layer, 0);
    if (!shape.is_moe) {
      builder.add(Phase::mlp, layer, 0);
      continue;
    }
    builder.add(Phase::route, layer, 0);
    builder.add(Phase::dispatch, layer, 0, Lane::comm);
    if (shape.has_shared_experts) {
      builder.add(Phase::shared_experts, layer, 0);
    }
    builder.add(Phase::experts, layer, 0);
    builder.add(Phase::combine, layer, 0, Lane::comm);
  }
  builder.add(Phase::output, kNoLayer, 0);
  return builder.finish();
}

}  // namespace dovetail
