#include "framework/step/step_hash.hpp"

#include <string>

#include <ATen/ops/tensor.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

/// What is told apart: columns of a StepHash.
enum Group { kOutputs, kKeysAndValues, kRouting, kNumGroups };

/// Hashes are recorded as numbers from 0 on, since -1 is "not there". Sums of them stay sums.
std::int64_t recorded(std::uint64_t sum) {
  return static_cast<std::int64_t>(sum & ((std::uint64_t{1} << 63U) - 1));
}

at::Tensor on_device(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(device);
}

at::Tensor token_keys(const StepWorkload& step, at::Device device) {
  std::vector<std::int64_t> keys;
  for (std::size_t i = 0; i < step.request_ids.size(); ++i) {
    keys.push_back(row_key(step.request_ids[i], step.positions[i]));
  }
  return on_device(keys, device);
}

/// Of the last token of each request.
at::Tensor request_keys(const StepWorkload& step, at::Device device) {
  std::vector<std::int64_t> keys;
  for (const auto& request : step.batch.requests) {
    keys.push_back(row_key(request.id, request.context_length + request.query_length - 1));
  }
  return on_device(keys, device);
}

void add_cache(const KvCache& cache,
               const at::Tensor& slots,
               const at::Tensor& keys,
               int group,
               std::vector<HashedRows>& parts) {
  for (std::size_t layer = 0; layer < cache.num_layers(); ++layer) {
    for (const auto& part : cache.parts()) {
      parts.push_back({(cache.*part.layers)[layer].flatten(0, 1),
                       slots,
                       keys,
                       row_tag(part.name + std::to_string(layer)),
                       group});
    }
  }
}

RowHasher make_step_hasher(const StepWorkload& step,
                           const StepInputs& inputs,
                           const KvCache& cache,
                           const StepOutputs& outputs) {
  const auto device = inputs.slot_mapping.device();
  const auto tokens = token_keys(step, device);
  const auto requests = request_keys(step, device);
  std::vector<HashedRows> parts;
  const auto add =
      [&](const at::Tensor& rows, const at::Tensor& keys, std::string_view name, int group) {
        if (rows.defined()) {
          parts.push_back({rows, {}, keys, row_tag(name), group});
        }
      };
  add(outputs.hidden, tokens, "hidden", kOutputs);
  add(outputs.logits, requests, "logits", kOutputs);
  add(outputs.logits_all, tokens, "logits_all", kOutputs);
  for (std::size_t layer = 0; layer < outputs.layers.size(); ++layer) {
    add(outputs.layers[layer], tokens, "layer_" + std::to_string(layer), kOutputs);
  }
  const auto num_layers = static_cast<std::int64_t>(cache.num_layers());
  for (std::int64_t layer = 0; outputs.expert_ids.defined() && layer < num_layers; ++layer) {
    const auto name = std::to_string(layer);
    add(outputs.expert_ids.select(0, layer), tokens, "expert_ids_" + name, kRouting);
    add(outputs.router_logits.select(0, layer), tokens, "router_logits_" + name, kRouting);
    if (outputs.router_scores.defined()) {
      add(outputs.router_scores.select(0, layer), tokens, "router_scores_" + name, kRouting);
    }
    if (outputs.natural_ids.defined()) {
      add(outputs.natural_ids.select(0, layer), tokens, "natural_ids_" + name, kRouting);
    }
  }
  add_cache(cache, inputs.slot_mapping, tokens, kKeysAndValues, parts);
  return {std::move(parts), kNumGroups};
}

RowHasher make_untouched_hasher(Iteration& iteration) {
  const auto slots = iteration.untouched_slots();
  std::vector<HashedRows> parts;
  add_cache(iteration.cache(), slots, slots, 0, parts);
  return {std::move(parts), 1};
}

}  // namespace

StepHasher::StepHasher(const RankWorkload& workload,
                       Iteration& iteration,
                       const std::vector<StepOutputs>& outputs)
    : untouched_(make_untouched_hasher(iteration)) {
  DOVETAIL_CHECK_EQ(workload.steps.size(), outputs.size());
  DOVETAIL_CHECK_EQ(workload.steps.size(), iteration.steps().size());
  for (std::size_t step = 0; step < outputs.size(); ++step) {
    steps_.push_back(make_step_hasher(
        workload.steps[step], iteration.steps()[step], iteration.cache(), outputs[step]));
  }
}

StepHash StepHasher::of_step(std::size_t step) const {
  const auto sums = steps_.at(step).sums();
  return {.outputs = recorded(sums[kOutputs]),
          .kv = recorded(sums[kKeysAndValues]),
          .routing = recorded(sums[kRouting])};
}

std::int64_t StepHasher::of_untouched() const {
  return recorded(untouched_.sums().front());
}

}  // namespace dovetail
