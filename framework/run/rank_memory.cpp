#include "framework/run/rank_memory.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <tuple>
#include <variant>

#include "framework/comm/exchange/exchanges.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/rounds.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

/// Slots of a rank's KV cache in a policy. Throws InputError where the requests do not fit.
std::int64_t cache_slots(const CheckedRun& run, const RankWorkload& workload, std::size_t policy) {
  const auto& execution = run.experiment.policies[policy].execution;
  return count_kv_pages(workload.kv_tokens, execution.page_size, execution.cache_tokens) *
         execution.page_size;
}

/// Whether policies take turns: what they have stays alive until the last round.
bool has_rounds(const CheckedRun& run) {
  std::vector<int> iterations;
  for (const auto& policy : run.experiment.policies) {
    iterations.push_back(policy.execution.iterations);
  }
  return rounds_of_run(run.experiment.execution, run.experiment.workload.variants, iterations) > 1;
}

/// Of the KV caches that are there at a time, those of `first` up to `last`, which share one where
/// PolicyMaker lets them: not where contexts were filled with other experts.
std::int64_t live_cache_slots(const CheckedRun& run,
                              const RankWorkload& workload,
                              std::size_t first,
                              std::size_t last) {
  const bool has_contexts = !workload.context_steps.empty();
  std::int64_t most = 0;
  std::map<std::tuple<int, std::int64_t, Numerics, bool>, std::int64_t> caches;
  for (std::size_t i = first; i < last; ++i) {
    const auto& policy = run.experiment.policies[i];
    const auto& execution = policy.execution;
    const bool replays =
        replays_baseline(run.experiment) && policy.name != run.experiment.verify.baseline;
    const auto slots = cache_slots(run, workload, i);
    most = std::max(most, slots);
    caches[{execution.page_size,
            execution.cache_tokens,
            has_contexts ? execution.numerics : Numerics::fast,
            has_contexts && replays}] = slots;
  }
  if (!has_rounds(run)) {
    return most;
  }
  return std::accumulate(
      caches.begin(), caches.end(), std::int64_t{0}, [](auto sum, const auto& cache) {
        return sum + cache.second;
      });
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

/// Of one rank in one policy, in the worst routing.
struct ExchangeMemory {
  std::int64_t buffers = 0;
  std::int64_t expert_outputs = 0;
};

ExchangeMemory exchange_memory(const CheckedRun& run,
                               std::size_t policy,
                               int expert_parallel,
                               int ep_rank) {
  const auto& dims = run.architecture->dims();
  const auto& resolved = run.policies[policy];
  const auto& execution = run.experiment.policies[policy].execution;
  const auto& name = resolved.execution.exchange;
  const bool on_gpu = resolved.execution.on_gpu();
  const auto& schedule = resolved.schedules.own;
  const ExchangeShape shape = {.ep_size = expert_parallel,
                               .ep_rank = ep_rank,
                               .num_experts = dims.num_experts,
                               .top_k = dims.top_k,
                               .hidden = dims.hidden,
                               .dtype = to_torch(run.experiment.execution.dtype),
                               .num_ubatches = schedule.num_ubatches,
                               .sum_order = sum_order(execution.numerics, on_gpu)};
  const auto tokens = (run.max_step_tokens + schedule.num_ubatches - 1) / schedule.num_ubatches;
  const auto capacity = execution.padded_capacity;
  return {.buffers = exchange_buffer_bytes(name, on_gpu, shape, tokens, capacity),
          .expert_outputs = most_output_bytes(schedule, [&](int last_group) {
            return expert_output_bytes(
                name, on_gpu, shape, tokens, capacity, schedule.num_groups, last_group);
          })};
}

}  // namespace

std::int64_t most_output_bytes(const Schedule& schedule,
                               const std::function<std::int64_t(int last_group)>& bytes_up_to) {
  std::vector<std::int64_t> held(static_cast<std::size_t>(schedule.num_ubatches), 0);
  std::int64_t most = 0;
  for (const Op& op : schedule.ops) {
    if (op.phase != Phase::experts) {
      continue;
    }
    auto& own = held[static_cast<std::size_t>(op.ubatch)];
    own = bytes_up_to(group_index(op));
    most = std::max(most, std::accumulate(held.begin(), held.end(), std::int64_t{0}));
    if (group_index(op) + 1 == schedule.num_groups) {
      own = 0;
    }
  }
  return most;
}

std::vector<MemoryPart> rank_memory(const CheckedRun& run,
                                    int rank,
                                    const MemoryQuestion& question) {
  const auto& experiment = run.experiment;
  const auto dtype = to_torch(experiment.execution.dtype);
  const auto& dims = run.architecture->dims();
  const auto element = static_cast<std::int64_t>(size_of(experiment.execution.dtype));
  const auto layers = static_cast<std::int64_t>(run.architecture->shape().num_layers());
  const auto& own = run.workloads[static_cast<std::size_t>(rank)];
  const RankGrid grid = {
      .world_size = run.grid.world_size,
      .expert_parallel = question.expert_parallel.value_or(run.grid.expert_parallel)};
  const int ep_rank = grid.ep_rank(Rank(rank)).value;
  std::int64_t tokens = 0;
  std::int64_t requests = 0;
  for (const auto& step : own.steps) {
    tokens += step.batch.num_tokens();
    requests += std::ssize(step.batch.requests);
  }
  auto parts = run.architecture->weight_memory({.ep_size = grid.expert_parallel,
                                                .ep_rank = ep_rank,
                                                .dtype = dtype,
                                                .device = run.place.device == DeviceKind::cuda
                                                              ? at::Device(at::kCUDA, 0)
                                                              : at::Device(at::kCPU)});
  ExchangeMemory of_exchange;
  // In rounds the others' caches and outputs are there beside those of the policy.
  const bool is_one = question.policy.has_value() && !has_rounds(run);
  const auto first = is_one ? *question.policy : 0;
  const auto last = is_one ? first + 1 : run.policies.size();
  const auto slots = live_cache_slots(run, own, first, last);
  for (std::size_t i = first; i < last; ++i) {
    const auto own_policy = exchange_memory(run, i, grid.expert_parallel, ep_rank);
    of_exchange.buffers = std::max(of_exchange.buffers, own_policy.buffers);
    of_exchange.expert_outputs = std::max(of_exchange.expert_outputs, own_policy.expert_outputs);
  }
  parts.push_back({"kv cache", layers * slots * dims.cached_elements() * element});
  parts.push_back({"exchange buffers (worst case)", of_exchange.buffers});
  parts.push_back({"experts' outputs (worst case)", of_exchange.expert_outputs});
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
  const auto num_outputs = has_rounds(run) ? std::ssize(run.policies) : 1;
  parts.push_back({"outputs", num_outputs * outputs * element});
  return parts;
}

}  // namespace dovetail
