#include "framework/run/memory_estimate.hpp"

#include <algorithm>
#include <iterator>
#include <variant>

#include "framework/comm/exchange/exchanges.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/step/torch_dtype.hpp"
#ifdef DOVETAIL_WITH_CUDA
#include "framework/comm/exchange/nccl/device_exchanges.hpp"
#endif

namespace dovetail {
namespace {

/// Tokens of the largest forward pass of any rank, context included.
std::int64_t max_step_tokens(const CheckedRun& run) {
  std::int64_t most = 0;
  for (const auto& workload : run.workloads) {
    for (const auto* steps : {&workload.steps, &workload.context_steps}) {
      for (const auto& step : *steps) {
        most = std::max(most, step.batch.num_tokens());
      }
    }
  }
  return most;
}

/// Slots of a rank's KV cache in the policy that has most of them. Throws InputError where the
/// requests do not fit.
std::int64_t cache_slots(const CheckedRun& run, const RankWorkload& workload) {
  std::int64_t most = 0;
  for (const auto& policy : run.experiment.policies) {
    const auto pages = allocate_kv_pages(workload.kv_tokens,
                                         policy.execution.page_size,
                                         policy.execution.cache_tokens,
                                         run.experiment.workload.seed);
    most = std::max(most, pages.num_pages * pages.page_size);
  }
  return most;
}

/// Activations and routing that the experiment gives (given_inputs.hpp), at most: of all steps.
std::int64_t given_bytes(const CheckedRun& run, const RankWorkload& workload) {
  const auto& dims = run.architecture->dims();
  const auto& config = run.experiment.workload;
  std::int64_t bytes_a_token = 0;
  if (config.inputs.kind != InputKind::ids) {
    bytes_a_token +=
        dims.hidden * static_cast<std::int64_t>(size_of(run.experiment.execution.dtype));
  }
  if (!std::holds_alternative<NaturalRouting>(config.routing)) {
    bytes_a_token += std::int64_t{run.architecture->shape().num_layers()} * dims.top_k *
                     static_cast<std::int64_t>(sizeof(std::int64_t));
  }
  std::int64_t tokens = 0;
  for (const auto* steps : {&workload.steps, &workload.context_steps}) {
    for (const auto& step : *steps) {
      tokens += step.batch.num_tokens();
    }
  }
  return tokens * bytes_a_token;
}

/// Of one rank, over all ubatches of at most `max_tokens` tokens each.
std::int64_t exchange_bytes_of(const ExchangeShape& shape,
                               std::int64_t max_tokens,
                               const ExecutionConfig& execution) {
  const bool on_gpu = plans_for_gpu(execution);
  const auto kind = choose_exchange(execution.exchange, on_gpu).name;
#ifdef DOVETAIL_WITH_CUDA
  if (on_gpu) {
    return device_exchange_buffer_bytes(kind, shape, max_tokens, execution.padded_capacity);
  }
#endif
  return exchange_buffer_bytes(shape, max_tokens, kind);
}

}  // namespace

std::vector<MemoryPart> rank_memory(const CheckedRun& run, int rank) {
  const auto& experiment = run.experiment;
  const auto dtype = to_torch(experiment.execution.dtype);
  const auto& dims = run.architecture->dims();
  const auto element = static_cast<std::int64_t>(size_of(experiment.execution.dtype));
  const auto layers = static_cast<std::int64_t>(run.architecture->shape().num_layers());
  const auto& own = run.workloads[static_cast<std::size_t>(rank)];
  std::int64_t tokens = 0;
  std::int64_t requests = 0;
  for (const auto& step : own.steps) {
    tokens += step.batch.num_tokens();
    requests += std::ssize(step.batch.requests);
  }
  const auto max_tokens = max_step_tokens(run);
  auto parts = run.architecture->weight_memory({.ep_size = run.grid.expert_parallel,
                                                .ep_rank = run.grid.ep_rank(Rank(rank)).value,
                                                .dtype = dtype,
                                                .device = at::kCPU});
  parts.push_back(
      {"kv cache", 2 * layers * cache_slots(run, own) * dims.kv_heads * dims.head_dim * element});
  std::int64_t exchange_bytes = 0;
  for (std::size_t i = 0; i < run.schedules.size(); ++i) {
    const auto num_ubatches = run.schedules[i].own.num_ubatches;
    const ExchangeShape shape = {.ep_size = run.grid.expert_parallel,
                                 .ep_rank = run.grid.ep_rank(Rank(rank)).value,
                                 .num_experts = dims.num_experts,
                                 .top_k = dims.top_k,
                                 .hidden = dims.hidden,
                                 .dtype = dtype,
                                 .num_ubatches = num_ubatches};
    const auto per_ubatch = (max_tokens + num_ubatches - 1) / num_ubatches;
    exchange_bytes = std::max(
        exchange_bytes, exchange_bytes_of(shape, per_ubatch, experiment.policies[i].execution));
  }
  parts.push_back({"exchange buffers (worst case)", exchange_bytes});
  parts.push_back({"given inputs", given_bytes(run, own)});
  std::int64_t outputs = tokens * dims.hidden;
  const auto& record = experiment.record;
  if (record.has(RecordedOutput::logits)) {
    outputs += requests * dims.vocabulary;
  }
  if (record.has(RecordedOutput::logits_all)) {
    outputs += tokens * dims.vocabulary;
  }
  if (record.has(RecordedOutput::layers)) {
    outputs += layers * tokens * dims.hidden;
  }
  parts.push_back({"outputs", outputs * element});
  return parts;
}

}  // namespace dovetail
