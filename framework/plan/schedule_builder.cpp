#include "framework/plan/schedule_builder.hpp"

#include <algorithm>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/plan/dependency.hpp"

namespace dovetail {

ScheduleBuilder::ScheduleBuilder(std::string name, const ModelShape& model, int num_ubatches)
    : schedule_{std::move(name), num_ubatches, model.layers, {}},
      op_indices_((model.layers.size() + 1) * kNumPhases * static_cast<std::size_t>(num_ubatches),
                  -1) {}

int& ScheduleBuilder::op_index(int layer, Phase phase, int ubatch) {
  const auto row =
      static_cast<std::size_t>(layer + 1) * kNumPhases + static_cast<std::size_t>(phase);
  return op_indices_.at(row * static_cast<std::size_t>(schedule_.num_ubatches) +
                        static_cast<std::size_t>(ubatch));
}

void ScheduleBuilder::add(Phase phase, int layer, int ubatch, Lane lane) {
  Op op{layer, ubatch, phase, lane, {}};
  for (const auto& needed : data_dependencies(schedule_.layers, {layer, phase})) {
    const int index = op_index(needed.layer, needed.phase, ubatch);
    DOVETAIL_CHECK(index >= 0, "a phase is added after the phases that it needs");
    if (schedule_.ops[static_cast<std::size_t>(index)].lane != lane) {
      op.waits.push_back(index);
    }
  }
  const int index = static_cast<int>(schedule_.ops.size());
  if (is_exchange(phase)) {
    const bool other_lane =
        last_exchange_ >= 0 && schedule_.ops[static_cast<std::size_t>(last_exchange_)].lane != lane;
    const auto known = std::find(op.waits.begin(), op.waits.end(), last_exchange_);
    if (other_lane && known == op.waits.end()) {
      op.waits.push_back(last_exchange_);
    }
    last_exchange_ = index;
  }
  std::sort(op.waits.begin(), op.waits.end());
  op_index(layer, phase, ubatch) = index;
  schedule_.ops.push_back(std::move(op));
}

Schedule ScheduleBuilder::finish() {
  op_indices_.clear();
  last_exchange_ = -1;
  return std::move(schedule_);
}

}  // namespace dovetail
