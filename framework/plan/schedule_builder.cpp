#include "framework/plan/schedule_builder.hpp"

#include <algorithm>
#include <utility>

#include "framework/base/check.hpp"

namespace dovetail {

ScheduleBuilder::ScheduleBuilder(std::string name,
                                 const ModelShape& model,
                                 int num_ubatches,
                                 int num_groups)
    : schedule_{std::move(name), num_ubatches, model.layers, {}, num_groups},
      op_indices_((model.layers.size() + 1) * kNumPhases * static_cast<std::size_t>(num_ubatches) *
                      static_cast<std::size_t>(num_groups),
                  -1) {}

int& ScheduleBuilder::op_index(const LayerPhase& what, int ubatch) {
  const auto row =
      static_cast<std::size_t>(what.layer + 1) * kNumPhases + static_cast<std::size_t>(what.phase);
  const auto of_ubatch =
      row * static_cast<std::size_t>(schedule_.num_ubatches) + static_cast<std::size_t>(ubatch);
  return op_indices_.at(of_ubatch * static_cast<std::size_t>(schedule_.num_groups) +
                        static_cast<std::size_t>(std::max(what.group, 0)));
}

void ScheduleBuilder::add(Phase phase, int layer, int ubatch, Lane lane, int group) {
  const LayerPhase what = {layer, phase, group};
  Op op{layer, ubatch, phase, lane, {}, group};
  for (const auto& needed : data_dependencies(schedule_.layers, what, schedule_.num_groups)) {
    const int index = op_index(needed, ubatch);
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
  op_index(what, ubatch) = index;
  schedule_.ops.push_back(std::move(op));
}

Schedule ScheduleBuilder::finish() {
  op_indices_.clear();
  last_exchange_ = -1;
  return std::move(schedule_);
}

}  // namespace dovetail
