// dovetail: the executable. `run` is here and reads as the way of the data; the other subcommands
// are in commands.hpp.
#include <algorithm>
#include <exception>
#include <malloc.h>
#include <optional>
#include <thread>

#include <ATen/Parallel.h>

#include "framework/base/log.hpp"
#include "framework/mpi/clock.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/conclude.hpp"
#include "framework/run/given_inputs.hpp"
#include "framework/run/model_holder.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/progress.hpp"
#include "framework/run/recording.hpp"
#include "framework/run/run_setup.hpp"
#include "framework/run/sweep_run.hpp"
#include "launch/command_line.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

/// All stages from the model on. Collective over the world; returns the exit code, equal on all
/// ranks.
int run_stages(const RankContext& context, const RunOptions& options, ModelHolder& models) {
  const auto& experiment = context.experiment;
  const auto architecture = models.read_architecture(context);
  const auto workload = read_workload(context, *architecture);
  check_policies(context, *architecture, workload);
  RankDevice device(context);
  check_device(context, device);
  const auto model = models.load_model(context, device);
  const auto digests = agree_on_digests(context, *model, workload);
  auto given = make_given_inputs(context, workload, *model);
  const auto clock = estimate_clock_offset(context.groups.world, context.wait);
  const auto folder = make_run_folder(context, options);
  std::optional<Iteration> iteration;
  std::optional<Progress> progress(context.is_first_rank());
  for (const auto& policy : experiment.policies) {
    const auto schedules = make_policy_schedules(policy, model->shape(), experiment.workload.phase);
    if (!iteration || !iteration->suits(policy.execution)) {
      iteration.reset();  // two caches need not fit
      iteration.emplace(
          workload, given, policy.execution, *model, experiment.workload.seed, device.device());
    }
    auto outputs = make_outputs(*iteration, *model, select_outputs(experiment));
    RankRecorder recorder(folder / policy.name / rank_file_name(context.rank().value),
                          rank_file_spec(context,
                                         {options, digests, clock, device.description()},
                                         policy,
                                         schedules,
                                         workload,
                                         *model));
    record_inputs(recorder, workload, experiment.workload.positions);
    const auto result =
        run_policy({.rank_context = context,
                    .device = device,
                    .policy = policy,
                    .schedules = schedules,
                    .model = *model,
                    .workload = workload,
                    .given = given,
                    .iteration = *iteration,
                    .outputs = outputs,
                    .on_iteration = [&](int finished,
                                        int all) { progress->show(policy.name, finished, all); }},
                   recorder);
    if (replays_baseline(experiment) && policy.name == experiment.verify.baseline) {
      given.expert_ids = routing_of(outputs);
    }
    if (result.stopped) {
      break;
    }
  }
  progress.reset();
  return conclude(context, folder);
}

/// Keeps freed memory in the process. By default glibc gives large blocks back and every step pays
/// for their pages again, the more the earlier in the process's life: the first policy of a run
/// then looked a third slower than the same policy later on. Call before threads start.
void keep_freed_memory() {
  constexpr int one_gibibyte = 1 << 30;
  // NOLINTBEGIN(concurrency-mt-unsafe): one thread so far
  mallopt(M_MMAP_THRESHOLD, one_gibibyte);
  mallopt(M_TRIM_THRESHOLD, one_gibibyte);
  mallopt(M_TOP_PAD, 64 << 20);
  // NOLINTEND(concurrency-mt-unsafe)
}

/// run_stages; a failure of this rank alone ends all ranks. Throws AgreedError only.
int run_point(const RankContext& context, const RunOptions& options, ModelHolder& models) {
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(std::max(1, cores / context.session.local_size()));
  auto& failures = context.failures;
  try {
    return run_stages(context, options, models);
  } catch (const AgreedError&) {
    throw;
  } catch (const Interrupted& error) {
    failures.report_interrupt(error.exit_code(), error.what());
  } catch (const Error& error) {
    failures.report(error.exit_code(), error.what());
  } catch (const std::exception& error) {
    failures.report(kExitRunFailure, error.what());
  }
  failures.end();
}

/// Owns what lives as long as the process's work, in order of creation. Throws AgreedError only.
int run_on_ranks(const MpiSession& session, const SignalWatch& signals, const RunOptions& options) {
  const auto catalog = model_catalog();
  const auto capabilities = build_capabilities(catalog.architectures.names());
  const auto sweep = agree_on_sweep(session, options, capabilities);
  ModelHolder models(catalog);
  const auto run = sweep.is_sweep() ? run_sweep : run_single;
  return run(
      session, signals, sweep, options, capabilities, [&](const auto& context, const auto& own) {
        return run_point(context, own, models);
      });
}

int run_command(int argc, char** argv, const RunOptions& options) {
  keep_freed_memory();
  const SignalWatch signals;
  const MpiSession session(&argc, &argv);
  set_log_rank(session.rank().value);
  try {
    return run_on_ranks(session, signals, options);
  } catch (const AgreedError& error) {
    if (session.rank().value == 0) {
      log_line(error.what());
    }
    return error.exit_code();
  }
}

}  // namespace
}  // namespace dovetail

int main(int argc, char** argv) {
  try {
    int exit_code = 0;
    const auto line = dovetail::parse_command_line(argc, argv, exit_code);
    if (!line) {
      return exit_code;
    }
    return line->command == "run" ? dovetail::run_command(argc, argv, line->run)
                                  : dovetail::run_other_command(*line);
  } catch (const dovetail::Error& error) {
    dovetail::log_line(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    dovetail::log_line(error.what());
    return dovetail::kExitRunFailure;
  }
}
