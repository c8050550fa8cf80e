#include "tests/gpu/qwen3_moe_gpu_step.hpp"

#include <iterator>
#include <limits>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/step_inputs.hpp"
#include "models/decoder/architecture.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

at::Device gpu_device() {
  return at::Device(at::kCUDA);
}

at::Tensor pad(const at::Tensor& x, std::int64_t dimension, std::int64_t rows, double fill) {
  auto sizes = x.sizes().vec();
  sizes.at(static_cast<std::size_t>(dimension)) = rows;
  return at::cat({x, at::full(sizes, fill, x.options())}, dimension);
}

/// A ubatch's inputs, padded, with everything but the list of segments on the GPU.
UbatchInputs to_frame(UbatchInputs inputs, std::int64_t rows, const FramePadding& padding) {
  const at::Device device = gpu_device();
  inputs.num_tokens += rows;
  inputs.input_ids = pad(inputs.input_ids, 0, rows, 0).to(device);
  inputs.positions = pad(inputs.positions, inputs.positions.dim() - 1, rows, 0).to(device);
  inputs.slot_mapping = pad(inputs.slot_mapping, 0, rows, -1).to(device);
  if (inputs.embeds.defined()) {
    inputs.embeds = pad(inputs.embeds, 0, rows, 0).to(device);
  }
  inputs.block_tables = with_padding_tables(inputs.block_tables, padding.segments).to(device);
  inputs.on_device = device_segments(inputs.segments, padding.segments, device);
  return inputs;
}

std::vector<UbatchState> make_ubatches(const SerialStep& step,
                                       const KvPages& pages,
                                       const FramePadding& padding) {
  StepInputs inputs = make_step_inputs(workload_of(step), pages, step.embeds, at::kCPU);
  if (step.mrope_positions.defined()) {
    inputs.positions = step.mrope_positions;
  }
  std::vector<UbatchState> ubatches;
  std::int64_t begin = 0;
  for (const std::int64_t end : step.ubatch_ends) {
    ubatches.emplace_back();
    ubatches.back().inputs =
        to_frame(slice_inputs(inputs, slice_tokens(inputs.batch, begin, end - begin)),
                 step.padding,
                 padding);
    begin = end;
  }
  DOVETAIL_CHECK_EQ(begin, inputs.batch.num_tokens());
  return ubatches;
}

/// Rows by expert and the sums of their weighted outputs; the weights are those of the GPU.
at::Tensor run_all_experts(const Model& model,
                           int layer,
                           const UbatchState& state,
                           const FramePadding& padding) {
  const at::Tensor ids_on_host = state.expert_ids.cpu();
  const at::Tensor weights_on_host = state.weights.cpu();
  const auto ids = ids_on_host.accessor<std::int64_t, 2>();
  const auto weights = weights_on_host.accessor<float, 2>();
  std::vector<std::int64_t> tokens;
  std::vector<float> factors;
  std::vector<int> ends;
  for (std::int64_t expert = 0; expert < model.dims().num_experts; ++expert) {
    for (std::int64_t token = 0; token < ids.size(0); ++token) {
      for (std::int64_t choice = 0; choice < ids.size(1); ++choice) {
        if (ids[token][choice] == expert) {
          tokens.push_back(token);
          factors.push_back(weights[token][choice]);
        }
      }
    }
    ends.push_back(static_cast<int>(tokens.size()));
  }
  const at::Tensor real =
      at::index_select(state.moe_input, 0, at::tensor(tokens, at::kLong).to(gpu_device()));
  const ExpertRows rows = {
      .rows = pad(real, 0, padding.dead_expert_rows, std::numeric_limits<double>::quiet_NaN()),
      .offsets = at::tensor(ends, at::kInt).to(gpu_device())};
  const at::Tensor outputs =
      model.experts(layer, rows).narrow(0, 0, real.size(0)).to(at::kFloat).cpu();
  at::Tensor sums = at::zeros({ids.size(0), state.moe_input.size(1)}, at::kFloat);
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    sums[tokens[row]].add_(outputs[static_cast<std::int64_t>(row)], factors[row]);
  }
  return sums.to(state.moe_input.scalar_type()).to(gpu_device());
}

at::Tensor replay_rows(const SerialStep& step,
                       std::size_t layer,
                       std::int64_t begin,
                       const UbatchState& state) {
  if (step.replay_ids.empty()) {
    return {};
  }
  const std::int64_t real = state.inputs.num_tokens - step.padding;
  return pad(step.replay_ids.at(layer).narrow(0, begin, real), 0, step.padding, -1)
      .to(gpu_device());
}

/// Rows of all ubatches, padding left out.
template <typename RowsOf>
at::Tensor joined(const std::vector<UbatchState>& ubatches,
                  std::int64_t padding,
                  const RowsOf& rows_of) {
  std::vector<at::Tensor> parts;
  for (const UbatchState& state : ubatches) {
    parts.push_back(rows_of(state).narrow(0, 0, state.inputs.num_tokens - padding).cpu());
  }
  return at::cat(parts);
}

void run_moe(const Model& model,
             int layer,
             const SerialStep& step,
             std::int64_t begin,
             const FramePadding& padding,
             UbatchState& state) {
  model.route(layer, state, replay_rows(step, static_cast<std::size_t>(layer), begin, state));
  if (step.after_route) {
    step.after_route(layer, state);
  }
  if (model.shape().layers[static_cast<std::size_t>(layer)].has_shared_experts) {
    model.shared_experts(layer, state);
  }
  model.add_moe(layer, state, run_all_experts(model, layer, state, padding));
}

}  // namespace

void HostStagedSource::read(const WeightRequest& request) {
  WeightRequest staged = request;
  staged.destination = at::empty(request.destination.sizes(),
                                 at::TensorOptions().dtype(request.destination.dtype()));
  source_.read(staged);
  at::Tensor destination = request.destination;
  destination.copy_(staged.destination);
}

std::unique_ptr<Model> make_gpu_model(const MoeDecoderConfig& config,
                                      WeightSource& source,
                                      at::ScalarType dtype) {
  HostStagedSource staged(source);
  return MoeDecoderArchitecture(config).make_model(
      staged, {.ep_size = 1, .ep_rank = 0, .dtype = dtype, .device = gpu_device()});
}

SerialCache make_gpu_cache(const Model& model,
                           const std::vector<std::int64_t>& kv_tokens,
                           int page_size) {
  SerialCache cache = make_serial_cache(model, kv_tokens, page_size);
  for (auto* tensors : {&cache.cache.keys, &cache.cache.values}) {
    for (at::Tensor& tensor : *tensors) {
      tensor = tensor.to(gpu_device());
    }
  }
  return cache;
}

SerialResult run_gpu_step(const Model& model,
                          const SerialStep& step,
                          SerialCache& cache,
                          const FramePadding& padding) {
  std::vector<UbatchState> ubatches = make_ubatches(step, cache.pages, padding);
  SerialResult result;
  for (UbatchState& state : ubatches) {
    model.embed(state);
  }
  for (int layer = 0; layer < model.shape().num_layers(); ++layer) {
    const bool is_moe = model.shape().layers[static_cast<std::size_t>(layer)].is_moe;
    std::int64_t begin = 0;
    for (UbatchState& state : ubatches) {
      model.attention(layer, state, cache.cache);
      if (is_moe) {
        run_moe(model, layer, step, begin, padding, state);
      } else {
        model.mlp(layer, state);
      }
      begin += state.inputs.num_tokens - step.padding;
    }
    const auto of_moe = [&](at::Tensor UbatchState::*field) {
      return is_moe ? joined(ubatches,
                             step.padding,
                             [&](const UbatchState& state) { return state.*field; })
                    : at::Tensor();
    };
    result.expert_ids.push_back(of_moe(&UbatchState::expert_ids));
    result.weights.push_back(of_moe(&UbatchState::weights));
    result.natural_ids.push_back(of_moe(&UbatchState::natural_ids));
    result.router_logits.push_back(of_moe(&UbatchState::router_logits));
  }
  for (const UbatchState& state : ubatches) {
    DOVETAIL_CHECK(model.output(state).isfinite().all().item<bool>(), "a row is not finite");
  }
  result.hidden =
      joined(ubatches, step.padding, [&](const UbatchState& state) { return model.output(state); });
  result.logits = model.logits(result.hidden.to(gpu_device())).cpu();
  check_gpu();
  return result;
}

}  // namespace dovetail::test
