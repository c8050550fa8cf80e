#include "framework/run/run_setup.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <variant>

#include <c10/core/InferenceMode.h>

#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "framework/config/validate_execution.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/request_trace.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/run_info.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/policy_checks.hpp"
#include "framework/run/recording.hpp"
#include "framework/step/broadcast_source.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

/// Only what `--policy` names, and the baseline that they are verified against.
void select_policies(Experiment& experiment, const std::vector<std::string>& names) {
  if (names.empty()) {
    return;
  }
  for (const auto& name : names) {
    find_policy(experiment, name);
  }
  std::erase_if(experiment.policies, [&](const PolicyConfig& policy) {
    const bool named = std::find(names.begin(), names.end(), policy.name) != names.end();
    const bool is_baseline =
        experiment.verify.mode != VerifyMode::none && policy.name == experiment.verify.baseline;
    return !named && !is_baseline;
  });
}

/// With `verify: {routing: replay}` the others take the baseline's experts, so it runs first.
void put_baseline_first(Experiment& experiment) {
  if (!replays_baseline(experiment)) {
    return;
  }
  std::stable_partition(
      experiment.policies.begin(), experiment.policies.end(), [&](const PolicyConfig& policy) {
        return policy.name == experiment.verify.baseline;
      });
}

std::string hexadecimal(std::uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

std::uint64_t sum_over(const MpiComm& comm, std::uint64_t value, const WaitPolicy& wait) {
  std::array<std::int64_t, 1> values = {static_cast<std::int64_t>(value)};
  all_reduce(comm, values, Reduction::sum, wait);
  return static_cast<std::uint64_t>(values[0]);
}

bool equal_on_all_ranks(const MpiComm& comm, std::uint64_t value, const WaitPolicy& wait) {
  std::array<std::int64_t, 1> smallest = {static_cast<std::int64_t>(value)};
  std::array<std::int64_t, 1> largest = smallest;
  all_reduce(comm, smallest, Reduction::min, wait);
  all_reduce(comm, largest, Reduction::max, wait);
  return smallest == largest;
}

/// Every rank reads the files that an experiment names for itself, and all must read the same.
/// Collective. Throws AgreedError that says `problem`, with the exit code of bad input.
void require_equal_files(const MpiComm& comm,
                         std::uint64_t digest,
                         const std::string& problem,
                         const WaitPolicy& wait) {
  const bool are_equal = equal_on_all_ranks(comm, digest, wait);
  run_on_all_ranks(comm, wait, [&] {
    if (!are_equal) {
      throw InputError(problem);
    }
  });
}

}  // namespace

Sweep agree_on_sweep(const MpiSession& session,
                     const RunOptions& options,
                     const Capabilities& capabilities) {
  const auto world = session.world();
  const WaitPolicy wait;
  std::string text;
  run_on_all_ranks(world, wait, [&] {
    if (session.rank().value == 0) {
      text = read_experiment_file(options.file);
    }
  });
  broadcast_text(world, text, wait);
  std::optional<Sweep> sweep;
  run_on_all_ranks(world, wait, [&] {
    sweep.emplace(text, options.file, options.overrides, options.policies);
    for (std::size_t point = 0; point < sweep->num_points(); ++point) {
      point_experiment(*sweep, point, session.world_size(), capabilities);
    }
  });
  return std::move(*sweep);
}

Experiment point_experiment(const Sweep& sweep,
                            std::size_t point,
                            int num_ranks,
                            const Capabilities& capabilities) {
  auto loaded = sweep.load(point);
  try {
    validate(loaded, capabilities, num_ranks);
  } catch (const InputError& error) {
    throw sweep.is_sweep()
        ? InputError(std::string(error.what()) + " (" + sweep.describe(point) + ")")
        : error;
  }
  select_policies(loaded.experiment, sweep.policies(point));
  put_baseline_first(loaded.experiment);
  return std::move(loaded.experiment);
}

WaitPolicy make_wait_policy(const Experiment& experiment,
                            FailureChannel& failures,
                            const SignalWatch& signals) {
  return {.timeout = std::chrono::seconds(experiment.execution.timeout_s),
          .on_poll = [&failures, &signals] {
            signals.poll();
            failures.poll();
          }};
}

std::unique_ptr<Architecture> read_architecture(const RankContext& context,
                                                const ModelCatalog& models) {
  const auto& model = context.experiment.model;
  std::unique_ptr<Architecture> architecture;
  run_on_all_ranks(context.groups.world, patient(context.wait), [&] {
    architecture = models.architectures.at(model.architecture)(model);
  });
  return architecture;
}

RankWorkload read_workload(const RankContext& context, const Architecture& architecture) {
  const auto& config = context.experiment.workload;
  const auto& world = context.groups.world;
  std::optional<RequestTrace> trace;
  RankWorkload workload;
  run_on_all_ranks(world, patient(context.wait), [&] {
    if (const auto* file = std::get_if<RequestFile>(&config.requests.front())) {
      trace = read_request_trace(file->path);
    }
    workload = make_workload(config,
                             trace ? &*trace : nullptr,
                             architecture.dims().vocabulary,
                             context.grid.world_size,
                             context.rank());
  });
  if (trace) {
    require_equal_files(
        world, trace->digest, "ranks read different contents of " + trace->file, context.wait);
  }
  return workload;
}

void check_policies(const RankContext& context,
                    const Architecture& architecture,
                    const RankWorkload& workload) {
  const auto& experiment = context.experiment;
  const auto& world = context.groups.world;
  std::vector<std::uint64_t> digests;
  run_on_all_ranks(world, context.wait, [&] {
    check_recorded_outputs(experiment.record, architecture.dims());
    for (const auto& policy : experiment.policies) {
      digests.push_back(
          make_checked_schedules(experiment, policy, architecture.shape(), context.grid.world_size)
              .digest());
      try {
        allocate_kv_pages(workload.kv_tokens,
                          policy.execution.page_size,
                          policy.execution.cache_tokens,
                          experiment.workload.seed);
      } catch (const InputError& error) {
        throw InputError("policy " + policy.name + ", rank " +
                         std::to_string(context.rank().value) + ": " + error.what());
      }
    }
  });
  for (std::size_t i = 0; i < digests.size(); ++i) {
    const auto& policy = experiment.policies[i];
    require_equal_files(world,
                        digests[i],
                        "policy " + policy.name + ": ranks read different contents of " +
                            describe_policy_files(experiment, policy),
                        context.wait);
  }
}

void check_device(const RankContext& context, const RankDevice& device) {
  const auto kind = device.is_gpu() ? DeviceKind::cuda : DeviceKind::cpu;
  run_on_all_ranks(context.groups.world, context.wait, [&] {
    for (const auto& policy : context.experiment.policies) {
      auto execution = policy.execution;
      execution.exchange = choose_exchange(execution.exchange, device.is_gpu()).name;
      check_execution_on(
          kind, execution, build_capabilities(), "policy " + policy.name + ": execution");
    }
  });
}

std::unique_ptr<Model> load_model(const RankContext& context,
                                  const ModelCatalog& models,
                                  const Architecture& architecture,
                                  RankDevice& device) {
  const c10::InferenceMode inference;
  const auto wait = patient(context.wait);
  const bool has_replicas = context.grid.num_replicas() > 1;
  std::unique_ptr<WeightSource> source;
  run_on_all_ranks(context.groups.world, wait, [&] {
    owned_experts(architecture.dims().num_experts, context.grid.expert_parallel, context.ep_rank());
    if (context.dp_rank() == DpRank(0)) {
      source = models.open_weights(context.experiment.model.weights);
    }
  });
  std::unique_ptr<Model> model;
  run_on_all_ranks(context.groups.world, wait, [&] {
    const ModelPlacement placement = {.ep_size = context.grid.expert_parallel,
                                      .ep_rank = context.ep_rank().value,
                                      .dtype = to_torch(context.experiment.execution.dtype),
                                      .device = device.device()};
    if (has_replicas) {
      BroadcastSource shared(
          source.get(), context.groups.dp, wait, device.broadcast_over_replicas());
      model = architecture.make_model(shared, placement);
    } else {
      model = architecture.make_model(*source, placement);
    }
  });
  return model;
}

std::filesystem::path make_run_folder(const RankContext& context, const RunOptions& options) {
  std::string path;
  run_on_all_ranks(context.groups.world, context.wait, [&] {
    if (!context.is_first_rank()) {
      return;
    }
    std::filesystem::path folder = options.out;
    if (folder.empty()) {
      folder = create_run_folder(
          "results", context.experiment.experiment, std::chrono::system_clock::now());
    } else {
      use_run_folder(folder);
    }
    write_file_atomically(folder / kExperimentFileName, dump(context.experiment));
    for (const auto& policy : context.experiment.policies) {
      create_policy_folder(folder, policy.name);
    }
    path = folder.string();
  });
  broadcast_text(context.groups.world, path, context.wait);
  return path;
}

RunDigests agree_on_digests(const RankContext& context,
                            const Model& model,
                            const RankWorkload& workload) {
  const auto own = model.weights_digest();
  const auto& groups = context.groups;
  const auto weights = own.replicated + sum_over(groups.ep, own.experts, context.wait);
  if (!equal_on_all_ranks(groups.world, weights, context.wait)) {
    throw RunError("replicas hold different weights");
  }
  return {.weights = hexadecimal(weights),
          .inputs = hexadecimal(sum_over(groups.world, workload.digest, context.wait))};
}

}  // namespace dovetail
