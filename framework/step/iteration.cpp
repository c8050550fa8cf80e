#include "framework/step/iteration.hpp"

#include <utility>

#include <ATen/ops/cat.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

std::vector<StepInputs> make_inputs(const std::vector<StepWorkload>& steps,
                                    const std::vector<at::Tensor>& embeds,
                                    const KvPages& pages,
                                    at::Device device) {
  std::vector<StepInputs> inputs;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    inputs.push_back(
        make_step_inputs(steps[i], pages, embeds.empty() ? at::Tensor() : embeds.at(i), device));
  }
  return inputs;
}

at::Tensor slots_of(const std::vector<StepInputs>& steps) {
  DOVETAIL_CHECK(!steps.empty(), "an iteration has at least one step");
  std::vector<at::Tensor> slots;
  slots.reserve(steps.size());
  for (const auto& step : steps) {
    slots.push_back(step.slot_mapping);
  }
  return at::cat(slots);
}

}  // namespace

Iteration::Iteration(const RankWorkload& workload,
                     const GivenInputs& given,
                     const ExecutionConfig& execution,
                     const Model& model,
                     std::uint64_t seed,
                     at::Device device)
    : page_size_(execution.page_size),
      cache_tokens_(execution.cache_tokens),
      numerics_(execution.numerics),
      pages_(allocate_kv_pages(workload.kv_tokens, page_size_, cache_tokens_, seed)),
      cache_(make_kv_cache(pages_, model.dims(), model.shape().num_layers(), device)),
      steps_(make_inputs(workload.steps, given.embeds, pages_, device)),
      context_steps_(make_inputs(workload.context_steps, given.context_embeds, pages_, device)),
      step_slots_(slots_of(steps_)) {}

bool Iteration::suits(const ExecutionConfig& execution) const {
  return execution.page_size == page_size_ && execution.cache_tokens == cache_tokens_ &&
         (context_steps_.empty() || execution.numerics == numerics_);
}

void Iteration::poison_steps() {
  poison_slots(cache_, step_slots_);
}

StepOutputs& Iteration::begin_context_step(const Model& model, const OutputSelection& selection) {
  const auto& step = context_steps_.at(context_outputs_.size());
  return context_outputs_.emplace_back(make_step_outputs(
      step, model.dims(), model.shape().num_layers(), selection, step.slot_mapping.device()));
}

void Iteration::end_context_step() {
  const auto on_host = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.cpu() : at::Tensor();
  };
  auto& outputs = context_outputs_.back();
  StepOutputs routing;
  routing.expert_ids = on_host(outputs.expert_ids);
  routing.natural_ids = on_host(outputs.natural_ids);
  routing.router_logits = on_host(outputs.router_logits);
  outputs = std::move(routing);
}

std::vector<StepOutputs> make_outputs(const Iteration& iteration,
                                      const Model& model,
                                      const OutputSelection& selection) {
  std::vector<StepOutputs> outputs;
  for (const auto& step : iteration.steps()) {
    outputs.push_back(make_step_outputs(
        step, model.dims(), model.shape().num_layers(), selection, step.slot_mapping.device()));
  }
  return outputs;
}

}  // namespace dovetail
