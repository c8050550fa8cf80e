#include "framework/step/step_inputs.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

at::Tensor int64_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(device);
}

/// Cache slot of each token of the batch.
std::vector<std::int64_t> slots_of(const StepWorkload& workload, const KvPages& pages) {
  const auto& requests = workload.batch.requests;
  DOVETAIL_CHECK_EQ(requests.size(), pages.pages.size());
  std::vector<std::int64_t> slots;
  for (std::size_t index = 0; index < requests.size(); ++index) {
    const auto& request = requests[index];
    const auto capacity = std::ssize(pages.pages[index]) * pages.page_size;
    const auto end = request.context_length + request.query_length;
    DOVETAIL_CHECK(end <= capacity,
                   "request " + std::to_string(request.id) + " has pages for " +
                       counted(capacity, "token") + " and needs " + std::to_string(end));
    for (auto position = request.context_length; position < end; ++position) {
      DOVETAIL_CHECK_EQ(workload.positions[slots.size()], position);
      slots.push_back(pages.slot(index, position));
    }
  }
  return slots;
}

at::Tensor make_block_tables(const KvPages& pages, at::Device device) {
  std::size_t max_pages = 0;
  for (const auto& of_request : pages.pages) {
    max_pages = std::max(max_pages, of_request.size());
  }
  const auto num_requests = std::ssize(pages.pages);
  at::Tensor tables = at::full({num_requests, static_cast<std::int64_t>(max_pages)}, -1, at::kInt);
  auto* row = tables.mutable_data_ptr<std::int32_t>();
  for (const auto& of_request : pages.pages) {
    std::copy(of_request.begin(), of_request.end(), row);
    row += max_pages;
  }
  return tables.to(device);
}

}  // namespace

void StepOutputs::poison() {
  for (auto* tensor : {&hidden, &logits, &logits_all, &router_logits, &router_scores}) {
    if (tensor->defined()) {
      tensor->fill_(kNan);
    }
  }
  for (auto& layer : layers) {
    layer.fill_(kNan);
  }
  for (auto* tensor : {&expert_ids, &natural_ids}) {
    if (tensor->defined()) {
      tensor->fill_(-1);
    }
  }
}

StepInputs make_step_inputs(const StepWorkload& workload,
                            const KvPages& pages,
                            const at::Tensor& embeds,
                            at::Device device) {
  const auto tokens = workload.batch.num_tokens();
  DOVETAIL_CHECK_EQ(std::ssize(workload.input_ids), tokens);
  DOVETAIL_CHECK_EQ(std::ssize(workload.positions), tokens);
  StepInputs inputs;
  inputs.batch = workload.batch;
  inputs.input_ids = int64_tensor(workload.input_ids, device);
  if (embeds.defined()) {
    DOVETAIL_CHECK(embeds.dim() == 2 && embeds.size(0) == tokens, "embeds must be [tokens, H]");
    inputs.embeds = embeds.to(device).contiguous();
  }
  inputs.positions = int64_tensor(workload.positions, device);
  if (!workload.mrope_positions.empty()) {
    inputs.positions = int64_tensor(workload.mrope_positions, device).view({3, tokens});
  }
  inputs.slot_mapping = int64_tensor(slots_of(workload, pages), device);
  inputs.block_tables = make_block_tables(pages, device);
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
  if (selection.logits && dims.is_last_stage) {
    const auto requests = static_cast<std::int64_t>(inputs.batch.requests.size());
    outputs.logits = at::empty({requests, dims.vocabulary}, options);
  }
  if (selection.logits_all && dims.is_last_stage) {
    outputs.logits_all = at::empty({tokens, dims.vocabulary}, options);
  }
  for (int layer = 0; selection.layers && layer < num_layers; ++layer) {
    outputs.layers.push_back(at::empty({tokens, dims.hidden}, options));
  }
  if (selection.routing) {
    outputs.expert_ids = at::empty({num_layers, tokens, dims.top_k}, options.dtype(at::kInt));
    outputs.router_logits =
        at::empty({num_layers, tokens, dims.num_experts}, options.dtype(dims.router_dtype()));
    if (dims.has_router_scores) {
      outputs.router_scores = at::empty_like(outputs.router_logits, options.dtype(at::kFloat));
    }
    if (selection.replays_routing) {
      outputs.natural_ids = at::empty_like(outputs.expert_ids);
    }
  }
  outputs.poison();
  return outputs;
}

OutputSelection selection_of(const StepOutputs& outputs) {
  return {.logits = outputs.logits.defined(),
          .logits_all = outputs.logits_all.defined(),
          .layers = !outputs.layers.empty(),
          .routing = outputs.expert_ids.defined(),
          .replays_routing = outputs.natural_ids.defined()};
}

UbatchInputs slice_inputs(const StepInputs& inputs, const UbatchSlice& slice) {
  UbatchInputs ubatch;
  ubatch.num_tokens = slice.num_tokens;
  ubatch.input_ids = inputs.input_ids.narrow(0, slice.token_start, slice.num_tokens);
  if (inputs.embeds.defined()) {
    ubatch.embeds = inputs.embeds.narrow(0, slice.token_start, slice.num_tokens);
  }
  ubatch.positions = inputs.positions.narrow(-1, slice.token_start, slice.num_tokens);
  ubatch.slot_mapping = inputs.slot_mapping.narrow(0, slice.token_start, slice.num_tokens);
  std::vector<std::int64_t> requests;
  for (const auto& segment : slice.segments) {
    requests.push_back(segment.request);
    const auto& request = inputs.batch.requests[static_cast<std::size_t>(segment.request)];
    ubatch.segments.push_back({.token_start = segment.token_start - slice.token_start,
                               .query_length = segment.query_length,
                               .context_length = request.context_length + segment.query_start});
  }
  ubatch.block_tables = at::index_select(
      inputs.block_tables, 0, int64_tensor(requests, inputs.block_tables.device()));
  return ubatch;
}

}  // namespace dovetail
