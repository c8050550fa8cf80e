#include "framework/step/iteration.hpp"

#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/index_fill.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

KvPages pages_of_variant(const KvPages& pages, int variant, int num_variants) {
  const auto count = pages.pages.size() / static_cast<std::size_t>(num_variants);
  return pages.of_requests(static_cast<std::size_t>(variant) * count, count);
}

std::vector<StepInputs> make_steps(const RankWorkload& workload,
                                   const GivenInputs& given,
                                   const KvPages& pages,
                                   at::Device device) {
  std::vector<StepInputs> inputs;
  for (std::size_t i = 0; i < workload.steps.size(); ++i) {
    const auto& step = workload.steps[i];
    inputs.push_back(make_step_inputs(step,
                                      pages_of_variant(pages, step.variant, workload.num_variants),
                                      given_at(given.embeds, i),
                                      device));
  }
  return inputs;
}

/// Of all variants' requests together.
std::vector<StepInputs> make_context_steps(const RankWorkload& workload,
                                           const GivenInputs& given,
                                           const KvPages& pages,
                                           at::Device device) {
  std::vector<StepInputs> inputs;
  for (std::size_t i = 0; i < workload.context_steps.size(); ++i) {
    const auto& step = workload.context_steps[i];
    inputs.push_back(
        make_step_inputs(step,
                         pages.of_requests(step.first_request, step.batch.requests.size()),
                         given_at(given.context_embeds, i),
                         device));
  }
  return inputs;
}

std::vector<at::Tensor> slots_of_variants(const std::vector<StepInputs>& steps, int num_variants) {
  DOVETAIL_CHECK(!steps.empty(), "an iteration has at least one step");
  const auto count = steps.size() / static_cast<std::size_t>(num_variants);
  std::vector<at::Tensor> all;
  for (std::size_t first = 0; first < steps.size(); first += count) {
    std::vector<at::Tensor> slots;
    for (std::size_t step = first; step < first + count; ++step) {
      slots.push_back(steps[step].slot_mapping);
    }
    all.push_back(at::cat(slots));
  }
  return all;
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
      num_variants_(workload.num_variants),
      steps_(make_steps(workload, given, pages_, device)),
      context_steps_(make_context_steps(workload, given, pages_, device)),
      step_slots_(slots_of_variants(steps_, num_variants_)) {}

bool Iteration::suits(const ExecutionConfig& execution) const {
  return execution.page_size == page_size_ && execution.cache_tokens == cache_tokens_ &&
         (context_steps_.empty() || execution.numerics == numerics_);
}

KvPages Iteration::pages_of(int variant) const {
  return pages_of_variant(pages_, variant, num_variants_);
}

void Iteration::poison_steps(int variant) {
  poison_slots(cache_, step_slots_.at(static_cast<std::size_t>(variant)));
}

at::Tensor Iteration::untouched_slots() const {
  const auto device = step_slots_.front().device();
  auto is_untouched =
      at::ones({pages_.num_slots()}, at::TensorOptions().dtype(at::kBool).device(device));
  for (const auto& slots : step_slots_) {
    is_untouched.index_fill_(0, slots, false);
  }
  return is_untouched.nonzero().squeeze(1).contiguous();
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
  routing.router_scores = on_host(outputs.router_scores);
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
