#include "framework/device/step_inputs.hpp"

#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

namespace dovetail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

at::Tensor int64_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(device);
}

}  // namespace

void StepOutputs::poison() {
  for (auto* tensor : {&hidden, &logits, &logits_all, &margin}) {
    if (tensor->defined()) {
      tensor->fill_(kNan);
    }
  }
  for (auto& layer : layers) {
    layer.fill_(kNan);
  }
  if (expert_ids.defined()) {
    expert_ids.fill_(-1);
  }
}

StepInputs make_step_inputs(const RankWorkload& workload, at::Device device) {
  StepInputs inputs;
  inputs.batch = workload.batch;
  inputs.input_ids = int64_tensor(workload.input_ids, device);
  inputs.positions = int64_tensor(workload.positions, device);
  for (const auto& request : workload.batch.requests) {
    inputs.kv_start.push_back(inputs.num_slots);
    inputs.num_slots += request.query_length;
  }
  // Without cached context the slots of a batch are its tokens, in order.
  inputs.slot_mapping =
      at::arange(inputs.num_slots, at::TensorOptions().dtype(at::kLong).device(device));
  return inputs;
}

StepOutputs make_step_outputs(const StepInputs& inputs,
                              const ModelDims& dims,
                              int num_layers,
                              const OutputSelection& selection,
                              at::Device device) {
  const auto tokens = inputs.batch.num_tokens();
  const auto options = at::TensorOptions().dtype(dims.dtype).device(device);
  StepOutputs outputs;
  outputs.hidden = at::empty({tokens, dims.hidden}, options);
  if (selection.logits) {
    const auto requests = static_cast<std::int64_t>(inputs.batch.requests.size());
    outputs.logits = at::empty({requests, dims.vocabulary}, options);
  }
  if (selection.logits_all) {
    outputs.logits_all = at::empty({tokens, dims.vocabulary}, options);
  }
  for (int layer = 0; selection.layers && layer < num_layers; ++layer) {
    outputs.layers.push_back(at::empty({tokens, dims.hidden}, options));
  }
  if (selection.routing) {
    outputs.expert_ids = at::empty({num_layers, tokens, dims.top_k}, options.dtype(at::kInt));
    outputs.margin = at::empty({num_layers, tokens}, options.dtype(at::kFloat));
  }
  outputs.poison();
  return outputs;
}

KvCache make_kv_cache(std::int64_t num_slots,
                      const ModelDims& dims,
                      int num_layers,
                      at::Device device) {
  const auto options = at::TensorOptions().dtype(dims.dtype).device(device);
  KvCache cache;
  for (int layer = 0; layer < num_layers; ++layer) {
    for (auto* tensors : {&cache.keys, &cache.values}) {
      tensors->push_back(at::full({num_slots, dims.kv_heads, dims.head_dim}, kNan, options));
    }
  }
  return cache;
}

UbatchInputs slice_inputs(const StepInputs& inputs, const UbatchSlice& slice) {
  UbatchInputs ubatch;
  ubatch.num_tokens = slice.num_tokens;
  ubatch.input_ids = inputs.input_ids.narrow(0, slice.token_start, slice.num_tokens);
  ubatch.positions = inputs.positions.narrow(-1, slice.token_start, slice.num_tokens);
  ubatch.slot_mapping = inputs.slot_mapping.narrow(0, slice.token_start, slice.num_tokens);
  for (const auto& segment : slice.segments) {
    const auto request = static_cast<std::size_t>(segment.request);
    ubatch.segments.push_back(
        {.token_start = segment.token_start - slice.token_start,
         .query_length = segment.query_length,
         .context_length = inputs.batch.requests[request].context_length + segment.query_start,
         .kv_start = inputs.kv_start[request]});
  }
  return ubatch;
}

}  // namespace dovetail
