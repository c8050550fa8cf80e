#include "framework/plan/policies/sequential.hpp"

#include "framework/plan/dependency.hpp"
#include "framework/plan/schedule_builder.hpp"

namespace dovetail {

Schedule make_sequential(const PolicyInput& input) {
  check_num_ubatches("sequential", input.num_ubatches, 1, 1);
  ScheduleBuilder builder("sequential", input.model, 1);
  builder.add(Phase::embed, kNoLayer, 0);
  for (int layer = 0; layer < input.model.num_layers(); ++layer) {
    for (const Phase phase : phases_of(input.model.layers[static_cast<std::size_t>(layer)])) {
      builder.add(phase, layer, 0);
    }
  }
  builder.add(Phase::output, kNoLayer, 0);
  return builder.finish();
}

}  // namespace dovetail
