#include "framework/run/set_up.hpp"

#include <chrono>
#include <optional>
#include <variant>

#include <c10/core/InferenceMode.h>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/config/dump.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/grid.hpp"
#include "framework/plan/request_trace.hpp"
#include "framework/run/resumed_run.hpp"
#include "framework/step/broadcast_source.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

/// The weights of dp_rank 0 on all replicas. Not inside run_on_all_ranks, because it communicates.
std::unique_ptr<Model> load_replicated(const RunContext& context,
                                       const Architecture& architecture,
                                       const ModelPlacement& placement,
                                       WeightSource* source,
                                       RankDevice& device) {
  const auto& groups = context.ranks.groups;
  const auto wait = patient(context.ranks.wait);
  BroadcastSource shared(source, groups.dp, wait, device.broadcast_over_replicas());
  std::unique_ptr<Model> model;
  std::optional<LocalError> problem;
  try {
    model = architecture.make_model(shared, placement);
  } catch (const Error& error) {
    if (!shared.all_have_failed()) {
      throw;
    }
    problem = LocalError{error.exit_code(), error.what()};
  }
  all_ranks_ok(groups.world, problem, wait);
  return model;
}

}  // namespace

WaitPolicy make_wait_policy(const Experiment& experiment,
                            FailureChannel& failures,
                            const SignalWatch& signals) {
  return {.timeout = std::chrono::seconds(experiment.execution.timeout_s),
          .on_poll = [&failures, &signals] {
            signals.poll();
            failures.poll();
          }};
}

std::unique_ptr<Architecture> read_architecture(const RunContext& context,
                                                const ModelCatalog& models) {
  const auto& model = context.experiment.model;
  const auto& ranks = context.ranks;
  std::unique_ptr<Architecture> architecture;
  run_on_all_ranks(ranks.groups.world, patient(ranks.wait), [&] {
    architecture = models.architectures.at(model.architecture)(model);
  });
  return architecture;
}

RankWorkload read_workload(const RunContext& context, const Architecture& architecture) {
  const auto& config = context.experiment.workload;
  const auto& ranks = context.ranks;
  std::optional<RequestTrace> trace;
  RankWorkload workload;
  run_on_all_ranks(ranks.groups.world, patient(ranks.wait), [&] {
    if (const auto* file = std::get_if<RequestFile>(&config.requests.front())) {
      trace = read_request_trace(file->path);
    }
    workload = make_workload(config,
                             trace ? &*trace : nullptr,
                             architecture.dims().vocabulary,
                             ranks.grid.world_size,
                             ranks.rank());
    check_positions(workload, architecture.dims().max_positions);
  });
  if (trace) {
    require_equal_digests(ranks.groups.world,
                          trace->digest,
                          "ranks read different contents of " + trace->file,
                          ranks.wait);
  }
  return workload;
}

std::unique_ptr<Model> load_model(const RunContext& context,
                                  const ModelCatalog& models,
                                  const Architecture& architecture,
                                  RankDevice& device) {
  const c10::InferenceMode inference;
  const auto& ranks = context.ranks;
  const auto wait = patient(ranks.wait);
  std::unique_ptr<WeightSource> source;
  run_on_all_ranks(ranks.groups.world, wait, [&] {
    owned_experts(architecture.dims().num_experts, ranks.grid.expert_parallel, ranks.ep_rank());
    if (ranks.dp_rank() == DpRank(0)) {
      source = models.open_weights(context.experiment.model.weights);
    }
  });
  const ModelPlacement placement = {.ep_size = ranks.grid.expert_parallel,
                                    .ep_rank = ranks.ep_rank().value,
                                    .dtype = to_torch(context.experiment.execution.dtype),
                                    .device = device.device()};
  if (ranks.grid.num_replicas() > 1) {
    return load_replicated(context, architecture, placement, source.get(), device);
  }
  std::unique_ptr<Model> model;
  run_on_all_ranks(
      ranks.groups.world, wait, [&] { model = architecture.make_model(*source, placement); });
  return model;
}

RunFolder make_run_folder(const RunContext& context, const RunOptions& options) {
  const auto& ranks = context.ranks;
  RunFolder folder;
  std::string path;
  run_on_all_ranks(ranks.groups.world, ranks.wait, [&] {
    if (!ranks.is_first()) {
      return;
    }
    if (!options.resume.empty()) {
      folder = open_earlier_run(options.resume, context.experiment, ranks.grid.world_size);
      path = options.resume;
      return;
    }
    folder = open_run_folder(
        options.out, context.experiment.experiment, std::chrono::system_clock::now());
    write_file_atomically(folder.path / kExperimentFileName, dump(context.experiment));
    for (const auto& policy : context.experiment.policies) {
      create_policy_folder(folder.path, policy.name);
    }
    path = folder.path.string();
  });
  broadcast_text(ranks.groups.world, path, ranks.wait);
  folder.path = path;
  return folder;
}

RunDigests agree_on_digests(const RunContext& context,
                            const Model& model,
                            const RankWorkload& workload) {
  const auto own = model.weights_digest();
  const auto& groups = context.ranks.groups;
  const auto& wait = context.ranks.wait;
  const auto weights = own.replicated + sum_over(groups.ep, own.experts, wait);
  if (!equal_on_all_ranks(groups.world, weights, wait)) {
    throw RunError("replicas hold different weights");
  }
  return {.weights = hexadecimal(weights),
          .inputs = hexadecimal(sum_over(groups.world, workload.digest, wait))};
}

}  // namespace dovetail
