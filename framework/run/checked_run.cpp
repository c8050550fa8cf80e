#include "framework/run/checked_run.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>
#include <variant>

#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/validate_execution.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/request_trace.hpp"
#include "framework/plan/rounds.hpp"
#include "framework/run/check_fault.hpp"
#include "framework/run/choose_device.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/fabric.hpp"
#include "framework/run/recorded_inputs.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

/// Tokens of the largest forward pass of any rank, context included.
std::int64_t count_max_step_tokens(const std::vector<RankWorkload>& workloads) {
  std::int64_t most = 0;
  for (const auto& workload : workloads) {
    for (const auto* steps : {&workload.steps, &workload.context_steps}) {
      for (const auto& step : *steps) {
        most = std::max(most, step.batch.num_tokens());
      }
    }
  }
  return most;
}

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

/// Of one rank, over all ubatches of at most `max_tokens` tokens each.
std::int64_t exchange_bytes_of(const ResolvedExecution& resolved,
                               const ExchangeShape& shape,
                               std::int64_t max_tokens,
                               const ExecutionConfig& execution) {
  return exchange_buffer_bytes(
      resolved.exchange, resolved.on_gpu(), shape, max_tokens, execution.padded_capacity);
}

ModelPlacement placement_of(const CheckedRun& run, int ep_rank) {
  return {.ep_size = run.grid.expert_parallel,
          .ep_rank = ep_rank,
          .dtype = to_torch(run.experiment.execution.dtype),
          .device = run.place.device == DeviceKind::cuda ? at::Device(at::kCUDA, 0)
                                                         : at::Device(at::kCPU)};
}

/// Opens a checkpoint as a run does and looks for the weights of each rank. Seeded weights fit.
void check_checkpoint(const CheckedRun& run, const ModelCatalog& models) {
  const auto& weights = run.experiment.model.weights;
  if (!std::holds_alternative<CheckpointWeights>(weights)) {
    return;
  }
  const auto source = models.open_weights(weights);
  for (int ep_rank = 0; ep_rank < run.grid.expert_parallel; ++ep_rank) {
    run.architecture->check_weights(*source, placement_of(run, ep_rank));
  }
}

bool can_run_on(DeviceKind device, const Experiment& experiment, const Capabilities& capabilities) {
  return std::all_of(
      experiment.policies.begin(), experiment.policies.end(), [&](const PolicyConfig& policy) {
        return !find_execution_problem(device, policy.execution, capabilities);
      });
}

}  // namespace

ResolvedPlace planned_place(const Experiment& experiment,
                            int num_ranks,
                            const Capabilities& capabilities) {
  const auto wanted = experiment.execution.device;
  const auto gpus = visible_gpus();
  bool on_gpu = wanted == DeviceKind::cuda;
  if (wanted == DeviceKind::automatic && what_needs_cpu(experiment).empty()) {
    on_gpu = can_run_on(DeviceKind::cuda, experiment, capabilities) &&
             (static_cast<int>(gpus.size()) >= num_ranks ||
              !can_run_on(DeviceKind::cpu, experiment, capabilities));
  }
  if (!on_gpu) {
    return {.world_size = num_ranks};
  }
  return {.device = DeviceKind::cuda,
          .device_name = gpus.empty() ? kUnknownGpu : gpus.front().description,
          .world_size = num_ranks,
          .gpus_apart = what_fabric_forbids(experiment.parallel.fabric)};
}

CheckedRun check_run(const Experiment& experiment,
                     int num_ranks,
                     const ModelCatalog& models,
                     const Capabilities& capabilities) {
  CheckedRun run;
  run.experiment = experiment;
  run.grid = make_grid(num_ranks, experiment.parallel.expert_parallel);
  run.place = planned_place(experiment, num_ranks, capabilities);
  check_fabric(experiment, run.place.device);
  run.architecture = models.architectures.at(experiment.model.architecture)(experiment.model);
  const auto& dims = run.architecture->dims();
  owned_experts(dims.num_experts, run.grid.expert_parallel, EpRank(0));
  check_recorded_outputs(experiment.record, dims);
  const auto& workload = experiment.workload;
  std::optional<RequestTrace> trace;
  if (const auto* file = std::get_if<RequestFile>(&workload.requests.front())) {
    trace = read_request_trace(file->path);
  }
  run.workloads = make_workloads(workload, trace ? &*trace : nullptr, dims.vocabulary, num_ranks);
  run.max_step_tokens = count_max_step_tokens(run.workloads);
  for (const auto& own : run.workloads) {
    check_positions(own, dims.max_positions);
  }
  for (const auto& policy : experiment.policies) {
    run.policies.push_back(
        resolve_policy(experiment, policy, *run.architecture, run.place, capabilities));
    check_fault(experiment, policy, run.policies.back(), *run.architecture);
    for (int rank = 0; rank < num_ranks; ++rank) {
      const auto& own = run.workloads[static_cast<std::size_t>(rank)];
      check_cache(policy, own, Rank(rank));
      check_fault_token(experiment, policy, run.policies.back(), own, Rank(rank));
    }
    auto reduced = bounds_messages(run.policies.back(), run.workloads.front(), Rank(0));
    for (int rank = 1; rank < num_ranks; ++rank) {
      const auto messages = bounds_messages(
          run.policies.back(), run.workloads[static_cast<std::size_t>(rank)], Rank(rank));
      for (std::size_t step = 0; step < reduced.size(); ++step) {
        reduced[step] = reduce(reduced[step], messages[step]);
      }
    }
    set_bounds(run.policies.back(), policy.execution, reduced);
    run.planned_steps.push_back(
        plan_steps(policy, run.policies.back(), experiment.workload.phase, reduced));
  }
  check_checkpoint(run, models);
  check_recorded_inputs(experiment, run.workloads, run.architecture->shape(), dims);
  return run;
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
                                                .device = placement_of(run, ep_rank).device});
  std::int64_t exchange_bytes = 0;
  // In rounds the others' caches and outputs are there beside those of the policy.
  const bool is_one = question.policy.has_value() && !has_rounds(run);
  const auto first = is_one ? *question.policy : 0;
  const auto last = is_one ? first + 1 : run.policies.size();
  const auto slots = live_cache_slots(run, own, first, last);
  for (std::size_t i = first; i < last; ++i) {
    const auto num_ubatches = run.policies[i].schedules.own.num_ubatches;
    const ExchangeShape shape = {.ep_size = grid.expert_parallel,
                                 .ep_rank = ep_rank,
                                 .num_experts = dims.num_experts,
                                 .top_k = dims.top_k,
                                 .hidden = dims.hidden,
                                 .dtype = dtype,
                                 .num_ubatches = num_ubatches,
                                 .sum_order = sum_order(experiment.policies[i].execution.numerics,
                                                        run.policies[i].execution.on_gpu())};
    const auto per_ubatch = (run.max_step_tokens + num_ubatches - 1) / num_ubatches;
    exchange_bytes = std::max(
        exchange_bytes,
        exchange_bytes_of(
            run.policies[i].execution, shape, per_ubatch, experiment.policies[i].execution));
  }
  parts.push_back({"kv cache", layers * slots * dims.cached_elements() * element});
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
  const auto num_outputs = has_rounds(run) ? std::ssize(run.policies) : 1;
  parts.push_back({"outputs", num_outputs * outputs * element});
  return parts;
}

}  // namespace dovetail
