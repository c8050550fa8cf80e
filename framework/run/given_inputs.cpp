#include "framework/run/given_inputs.hpp"

#include <variant>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "framework/base/hash.hpp"
#include "framework/base/seeded_values.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/synthetic_routing.hpp"
#include "framework/run/recorded_inputs.hpp"

namespace dovetail {
namespace {

std::vector<at::Tensor> embeds_of(const std::vector<StepWorkload>& steps,
                                  const ModelDims& dims,
                                  std::uint64_t seed) {
  std::vector<at::Tensor> embeds;
  embeds.reserve(steps.size());
  for (const auto& step : steps) {
    embeds.push_back(seeded_embeds(step, dims, seed));
  }
  return embeds;
}

std::vector<at::Tensor> synthetic_routing(const std::vector<StepWorkload>& steps,
                                          const WorkloadConfig& config,
                                          const Model& model) {
  const auto& dims = model.dims();
  const auto num_layers = model.shape().num_layers();
  std::vector<at::Tensor> routing;
  for (const auto& step : steps) {
    const auto ids = synthetic_expert_ids(config.routing,
                                          config.seed,
                                          num_layers,
                                          dims.first_layer,
                                          dims.num_experts,
                                          dims.top_k,
                                          step,
                                          dims.expert_groups);
    routing.push_back(
        at::tensor(ids, at::kLong).view({num_layers, step.batch.num_tokens(), dims.top_k}));
  }
  return routing;
}

}  // namespace

at::Tensor seeded_embeds(const StepWorkload& step, const ModelDims& dims, std::uint64_t seed) {
  constexpr SeededScale scale = {.offset = 0, .shift = 8, .scale = 0x1p-24F};
  auto embeds = at::empty({step.batch.num_tokens(), dims.hidden}, at::kFloat);
  auto* values = embeds.mutable_data_ptr<float>();
  for (std::size_t row = 0; row < step.request_ids.size(); ++row) {
    const auto stream = hash_of({static_cast<std::uint64_t>(step.request_ids[row]),
                                 static_cast<std::uint64_t>(step.positions[row])});
    for (std::int64_t i = 0; i < dims.hidden; ++i) {
      const auto block = random_block(seed, stream, static_cast<std::uint64_t>(i / 4));
      *values++ = seeded_value(block.words[i % 4], scale);
    }
  }
  return embeds.to(dims.dtype);
}

GivenInputs make_given_inputs(const RunContext& context,
                              const RankWorkload& workload,
                              const Model& model) {
  const auto& experiment = context.experiment;
  const auto& config = experiment.workload;
  const auto& dims = model.dims();
  GivenInputs given;
  run_on_all_ranks(context.ranks.groups.world, patient(context.ranks.wait), [&] {
    if (config.inputs.kind == InputKind::embeds) {
      given.embeds = embeds_of(workload.steps, dims, config.seed);
      given.context_embeds = embeds_of(workload.context_steps, dims, config.seed);
    } else if (config.inputs.kind == InputKind::hidden) {
      given.embeds = read_hidden(config.inputs.folder, workload, dims, experiment);
    }
    if (const auto* replay = std::get_if<ReplayRouting>(&config.routing)) {
      check_layers(replay->folder, experiment.model);
      given.expert_ids =
          read_routing(replay->folder, workload.steps, kStepRouting, model.shape(), dims);
      if (!workload.context_steps.empty()) {
        given.context_expert_ids = read_routing(
            replay->folder, workload.context_steps, kContextRouting, model.shape(), dims);
      }
      given.routing = RoutingSource::replayed;
    } else if (is_synthetic(config.routing)) {
      given.expert_ids = synthetic_routing(workload.steps, config, model);
      given.context_expert_ids = synthetic_routing(workload.context_steps, config, model);
      given.routing = RoutingSource::synthetic;
    }
  });
  return given;
}

}  // namespace dovetail
