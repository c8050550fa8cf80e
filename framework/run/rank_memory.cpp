#include "framework/run/rank_memory.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
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

/// What a token's experts take in all layers where a policy keeps them: ids, the router's own where
/// others are given, logits and scores (StepOutputs).
std::int64_t routing_bytes_a_token(const CheckedRun& run) {
  const auto& dims = run.architecture->dims();
  const bool is_given = !std::holds_alternative<NaturalRouting>(run.experiment.workload.routing) ||
                        replays_baseline(run.experiment);
  const std::int64_t ids = (is_given ? 2 : 1) * std::int64_t{dims.top_k} *
                           static_cast<std::int64_t>(at::elementSize(at::kInt));
  const auto float32 = static_cast<std::int64_t>(at::elementSize(at::kFloat));
  const auto logit = dims.has_float32_router
                         ? float32
                         : static_cast<std::int64_t>(size_of(run.experiment.execution.dtype));
  const std::int64_t scores = dims.num_experts * (logit + (dims.has_router_scores ? float32 : 0));
  return std::int64_t{run.architecture->shape().num_layers()} * (ids + scores);
}

/// Of all steps of a policy.
std::int64_t output_bytes(const CheckedRun& run, const RankWorkload& workload) {
  const auto& dims = run.architecture->dims();
  const auto& record = run.experiment.record;
  std::int64_t tokens = 0;
  std::int64_t requests = 0;
  for (const auto& step : workload.steps) {
    tokens += step.batch.num_tokens();
    requests += std::ssize(step.batch.requests);
  }
  std::int64_t elements = tokens * dims.hidden;
  if (record.has(RecordedOutput::logits) && dims.is_last_stage) {
    elements += requests * dims.vocabulary;
  }
  if (record.has(RecordedOutput::logits_all) && dims.is_last_stage) {
    elements += tokens * dims.vocabulary;
  }
  if (record.has(RecordedOutput::layers)) {
    elements += std::int64_t{run.architecture->shape().num_layers()} * tokens * dims.hidden;
  }
  std::int64_t bytes =
      elements * static_cast<std::int64_t>(size_of(run.experiment.execution.dtype));
  if (record.has(RecordedOutput::routing) || replays_baseline(run.experiment)) {
    bytes += tokens * routing_bytes_a_token(run);
  }
  return bytes;
}

/// Of one rank in one policy, in the worst routing.
struct ExchangeMemory {
  std::int64_t buffers = 0;
  std::int64_t expert_outputs = 0;
};

/// What the exchange that a policy runs with takes, for ubatches of given sizes.
class ExchangeSizing {
 public:
  ExchangeSizing(const CheckedRun& run, std::size_t policy, int expert_parallel, int ep_rank)
      : name_(run.policies[policy].execution.exchange),
        on_gpu_(run.policies[policy].execution.on_gpu()),
        padded_capacity_(run.experiment.policies[policy].execution.padded_capacity) {
    const auto& dims = run.architecture->dims();
    const auto numerics = run.experiment.policies[policy].execution.numerics;
    shape_ = {.ep_size = expert_parallel,
              .ep_rank = ep_rank,
              .num_experts = dims.num_experts,
              .top_k = dims.top_k,
              .hidden = dims.hidden,
              .dtype = to_torch(run.experiment.execution.dtype),
              .num_ubatches = 1,
              .sum_order = sum_order(numerics, on_gpu_)};
  }

  /// Each ubatch has buffers of its own, made for the most tokens that it ever has.
  std::int64_t buffer_bytes(const std::vector<std::int64_t>& tokens) const {
    return std::accumulate(
        tokens.begin(), tokens.end(), std::int64_t{0}, [&](std::int64_t sum, std::int64_t most) {
          return sum + exchange_buffer_bytes(name_, on_gpu_, shape_, most, padded_capacity_);
        });
  }

  std::int64_t output_bytes(const Schedule& schedule,
                            const std::vector<std::int64_t>& tokens) const {
    return most_output_bytes(schedule, [&](int ubatch, int last_group) {
      return expert_output_bytes(name_,
                                 on_gpu_,
                                 shape_,
                                 tokens.at(static_cast<std::size_t>(ubatch)),
                                 padded_capacity_,
                                 schedule.num_groups,
                                 last_group);
    });
  }

 private:
  std::string name_;
  bool on_gpu_;
  double padded_capacity_;
  ExchangeShape shape_;
};

/// A context is filled through an exchange of its own, before the steps have taken any buffers.
ExchangeMemory exchange_memory(const CheckedRun& run,
                               std::size_t policy,
                               int expert_parallel,
                               int ep_rank) {
  const ExchangeSizing sizing(run, policy, expert_parallel, ep_rank);
  const auto& schedules = run.policies[policy].schedules;
  ExchangeMemory most;
  std::vector<std::int64_t> most_tokens;
  for (const auto& step : run.step_sizes[policy]) {
    most_tokens.resize(std::max(most_tokens.size(), step.tokens.size()), 0);
    for (std::size_t u = 0; u < step.tokens.size(); ++u) {
      most_tokens[u] = std::max(most_tokens[u], step.tokens[u]);
    }
    const auto& schedule = step.is_own ? schedules.own : schedules.plain;
    most.expert_outputs = std::max(most.expert_outputs, sizing.output_bytes(schedule, step.tokens));
  }
  most.buffers = sizing.buffer_bytes(most_tokens);
  if (run.max_context_tokens > 0) {
    const std::vector context = {run.max_context_tokens};
    most.buffers = std::max(most.buffers, sizing.buffer_bytes(context));
    most.expert_outputs =
        std::max(most.expert_outputs, sizing.output_bytes(schedules.plain, context));
  }
  return most;
}

}  // namespace

std::int64_t most_output_bytes(
    const Schedule& schedule,
    const std::function<std::int64_t(int ubatch, int last_group)>& bytes_up_to) {
  std::vector<std::int64_t> held(static_cast<std::size_t>(schedule.num_ubatches), 0);
  std::int64_t most = 0;
  for (const Op& op : schedule.ops) {
    if (op.phase != Phase::experts) {
      continue;
    }
    auto& own = held[static_cast<std::size_t>(op.ubatch)];
    own = bytes_up_to(op.ubatch, group_index(op));
    most = std::max(most, std::accumulate(held.begin(), held.end(), std::int64_t{0}));
    if (group_index(op) + 1 == schedule.num_groups) {
      own = 0;
    }
  }
  return most;
}

std::vector<MemoryPart> memory_of_weights(const CheckedRun& run, int rank, int expert_parallel) {
  const RankGrid grid = {.world_size = run.grid.world_size, .expert_parallel = expert_parallel};
  auto parts = run.architecture->weight_memory({.ep_size = expert_parallel,
                                                .ep_rank = grid.ep_rank(Rank(rank)).value,
                                                .dtype = to_torch(run.experiment.execution.dtype),
                                                .device = run.place.device == DeviceKind::cuda
                                                              ? at::Device(at::kCUDA, 0)
                                                              : at::Device(at::kCPU)});
  for (auto& part : parts) {
    for (const auto& untied : run.untied_memory) {
      part.bytes += part.name == untied.name ? untied.bytes : 0;
    }
  }
  return parts;
}

std::vector<MemoryPart> memory_of_steps(const CheckedRun& run,
                                        int rank,
                                        const MemoryQuestion& question) {
  const auto& own = run.workloads[static_cast<std::size_t>(rank)];
  const auto& dims = run.architecture->dims();
  const auto element = static_cast<std::int64_t>(size_of(run.experiment.execution.dtype));
  const auto layers = static_cast<std::int64_t>(run.architecture->shape().num_layers());
  const RankGrid grid = {
      .world_size = run.grid.world_size,
      .expert_parallel = question.expert_parallel.value_or(run.grid.expert_parallel)};
  const int ep_rank = grid.ep_rank(Rank(rank)).value;
  const bool keeps_buffers = has_rounds(run) && run.place.device == DeviceKind::cpu;
  ExchangeMemory of_exchange;
  // In rounds the others' caches and outputs are there beside those of the policy.
  const bool is_one = question.policy.has_value() && !has_rounds(run);
  const auto first = is_one ? *question.policy : 0;
  const auto last = is_one ? first + 1 : run.policies.size();
  const auto slots = live_cache_slots(run, own, first, last);
  for (std::size_t i = first; i < last; ++i) {
    const auto own_policy = exchange_memory(run, i, grid.expert_parallel, ep_rank);
    // Between rounds GPU ranks give back the buffers of the policy whose turn ends.
    of_exchange.buffers = keeps_buffers ? of_exchange.buffers + own_policy.buffers
                                        : std::max(of_exchange.buffers, own_policy.buffers);
    of_exchange.expert_outputs = std::max(of_exchange.expert_outputs, own_policy.expert_outputs);
  }
  const auto num_outputs = has_rounds(run) ? std::ssize(run.policies) : 1;
  return {{"kv cache", layers * slots * dims.cached_elements() * element},
          {"exchange buffers (worst case)", of_exchange.buffers},
          {"experts' outputs (worst case)", of_exchange.expert_outputs},
          {"given inputs", given_bytes(run, own)},
          {"outputs", num_outputs * output_bytes(run, own)}};
}

std::vector<MemoryPart> rank_memory(const CheckedRun& run, int rank) {
  auto parts = memory_of_weights(run, rank, run.grid.expert_parallel);
  for (auto& part : memory_of_steps(run, rank, {})) {
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace dovetail
