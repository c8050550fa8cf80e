#include "framework/plan/policies/staged.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "framework/plan/dependency.hpp"
#include "framework/plan/policies/expert_groups.hpp"
#include "framework/plan/schedule_builder.hpp"
#include "framework/plan/stages.hpp"

namespace dovetail {
namespace {

struct StagedOp {
  LayerPhase what;
  Lane lane = Lane::compute;
};

using StepStage = std::vector<StagedOp>;

bool names_shared_experts(const std::vector<Stage>& stages) {
  return std::any_of(stages.begin(), stages.end(), [](const Stage& stage) {
    return std::any_of(stage.begin(), stage.end(), [](const StagedPhase& item) {
      return item.phase == Phase::shared_experts;
    });
  });
}

/// The stages of a whole step.
std::vector<StepStage> stages_of_step(const std::vector<LayerShape>& layers, const Stages& stages) {
  std::vector<StepStage> all(1);
  all.back().push_back({{kNoLayer, Phase::embed}});
  for (int layer = 0; layer < static_cast<int>(layers.size()); ++layer) {
    const LayerShape& shape = layers[static_cast<std::size_t>(layer)];
    const auto& lists = shape.is_moe ? stages.moe : stages.dense;
    for (std::size_t i = 0; i < lists.size(); ++i) {
      if (i > 0) {
        all.emplace_back();
      }
      for (const StagedPhase& item : lists[i]) {
        if (item.phase != Phase::shared_experts || shape.has_shared_experts) {
          all.back().push_back({{layer, item.phase, item.group}, item.lane});
        }
      }
    }
  }
  all.back().push_back({{kNoLayer, Phase::output}});
  return all;
}

void check_shared_experts(const std::vector<LayerShape>& layers, const Stages& stages) {
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    if (layers[layer].has_shared_experts && !names_shared_experts(stages.moe)) {
      throw InputError("stages.moe: layer " + std::to_string(layer) +
                       " has shared experts, and no stage names shared_experts");
    }
  }
}

}  // namespace

Schedule make_staged(const PolicyInput& input) {
  check_num_ubatches("staged", input.num_ubatches, 1, kMaxUbatches);
  check_num_groups("staged", input.num_groups);
  const Stages stages = make_stages(input.stages, input.phase, input.num_groups);
  check_shared_experts(input.model.layers, stages);
  const auto all = stages_of_step(input.model.layers, stages);
  ScheduleBuilder builder("staged", input.model, input.num_ubatches, input.num_groups);
  const int num_stages = static_cast<int>(all.size());
  const int num_rounds = num_stages + (input.num_ubatches - 1) * stages.delta;
  for (int round = 0; round < num_rounds; ++round) {
    for (int ubatch = 0; ubatch < input.num_ubatches; ++ubatch) {
      const int stage = round - ubatch * stages.delta;
      if (stage < 0 || stage >= num_stages) {
        continue;
      }
      for (const auto& [what, lane] : all[static_cast<std::size_t>(stage)]) {
        builder.add(what.phase, what.layer, ubatch, lane, what.group);
      }
    }
  }
  return builder.finish();
}

}  // namespace dovetail
