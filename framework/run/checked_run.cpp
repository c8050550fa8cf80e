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

std::int64_t count_max_context_tokens(const std::vector<RankWorkload>& workloads) {
  std::int64_t most = 0;
  for (const auto& workload : workloads) {
    for (const auto& step : workload.context_steps) {
      most = std::max(most, step.batch.num_tokens());
    }
  }
  return most;
}

ModelPlacement placement_of(const CheckedRun& run, int ep_rank) {
  return {.ep_size = run.grid.expert_parallel,
          .ep_rank = ep_rank,
          .dtype = to_torch(run.experiment.execution.dtype),
          .device = run.place.device == DeviceKind::cuda ? at::Device(at::kCUDA, 0)
                                                         : at::Device(at::kCPU)};
}

/// Opens a checkpoint as a run does and looks for the weights of each rank. Seeded weights fit.
void check_checkpoint(CheckedRun& run, const ModelCatalog& models) {
  const auto& weights = run.experiment.model.weights;
  if (!std::holds_alternative<CheckpointWeights>(weights)) {
    return;
  }
  const auto source = models.open_weights(weights);
  for (int ep_rank = 0; ep_rank < run.grid.expert_parallel; ++ep_rank) {
    run.architecture->check_weights(*source, placement_of(run, ep_rank));
  }
  run.untied_memory = run.architecture->untied_memory(*source, placement_of(run, 0));
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
  run.max_context_tokens = count_max_context_tokens(run.workloads);
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
    const auto* fault = fault_of(experiment, policy.name);
    run.step_sizes.push_back(step_sizes(policy,
                                        run.policies.back(),
                                        experiment.workload.phase,
                                        reduced,
                                        fault != nullptr && fault->kind == FaultKind::veto));
  }
  check_step_faults(experiment, run.policies, *run.architecture);
  check_checkpoint(run, models);
  check_recorded_inputs(experiment, run.workloads, run.architecture->shape(), dims);
  return run;
}

}  // namespace dovetail
