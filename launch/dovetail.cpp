// dovetail: the executable. `run` is here and reads as the way of the data; the other subcommands
// are in commands.hpp.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <malloc.h>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

#include <ATen/Parallel.h>

#include "framework/base/failure_text.hpp"
#include "framework/base/log.hpp"
#include "framework/base/task_threads.hpp"
#include "framework/mpi/clock.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/mpi/launcher.hpp"
#include "framework/mpi/start_limit.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/choose_device.hpp"
#include "framework/run/conclude.hpp"
#include "framework/run/fabric.hpp"
#include "framework/run/given_inputs.hpp"
#include "framework/run/model_holder.hpp"
#include "framework/run/overlap_hindrances.hpp"
#include "framework/run/policy_loop.hpp"
#include "framework/run/resolve.hpp"
#include "framework/run/resumed_run.hpp"
#include "framework/run/run_header.hpp"
#include "framework/run/run_points.hpp"
#include "framework/run/set_up.hpp"
#include "launch/command_line.hpp"
#include "launch/early_start.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

/// What lives as long as the process's work.
struct Process {
  const Capabilities& capabilities;
  ModelHolder& models;
  RunHeader& header;
  ComputeThreads threads;
  std::vector<std::string> hindrances;  ///< what takes overlap away from GPU ranks
  bool is_sweep = false;
};

/// All stages from the devices on. Collective over the world; returns the exit code, equal on all
/// ranks.
int run_stages(const RunContext& context, const RunOptions& options, const Process& process) {
  const auto& ranks = context.ranks;
  set_stage("reading the experiment's files");
  const auto placement = choose_device(context);
  run_on_all_ranks(ranks.groups.world, ranks.wait, [&] {
    check_fabric(context.experiment, placement.kind);
    set_fabric(context.experiment.parallel.fabric);
  });
  const auto architecture = process.models.read_architecture(context, placement);
  const auto workload = read_workload(context, *architecture);
  const auto policies = resolve_policies(context,
                                         *architecture,
                                         {placement.kind,
                                          placement.name,
                                          ranks.grid.world_size,
                                          placement.gpus_apart,
                                          ranks.session.local_size()},
                                         workload,
                                         process.capabilities);
  set_stage("loading the model");
  RankDevice device(ranks, placement);
  const auto hindrances = device.is_gpu() ? process.hindrances : std::vector<std::string>();
  process.header.print(context, device.description(), policies, hindrances);
  const auto model = process.models.load_model(context, device);
  const auto digests = agree_on_digests(context, *model, workload);
  set_stage("making the given inputs");
  const auto given = make_given_inputs(context, workload, *model);
  const auto clock = estimate_clock_offset(ranks.groups.world, ranks.wait);
  const auto folder = make_run_folder(context, options);
  if (!process.is_sweep) {
    context.failures.set_interrupt_advice(
        how_to_resume(options, folder.path, ranks.grid.world_size));
  }
  const auto result = run_policies({.run = context,
                                    .identity = {options,
                                                 digests,
                                                 clock,
                                                 device.description(),
                                                 process.threads,
                                                 describe_hindrances(hindrances)},
                                    .policies = policies,
                                    .device = device,
                                    .model = *model,
                                    .workload = workload,
                                    .given = given,
                                    .folder = folder.path});
  set_stage("verifying the outputs");
  return conclude(context, folder.path, result, options, process.is_sweep);
}

/// Keeps freed memory in the process. By default glibc gives large blocks back and every step pays
/// for their pages again, the more the earlier in the process's life: the first policy of a run
/// then looked a third slower than the same policy later on; `verify`, which reads one tensor after
/// the other, takes a quarter longer. Call before threads start.
void keep_freed_memory() {
  constexpr int one_gibibyte = 1 << 30;
  // NOLINTBEGIN(concurrency-mt-unsafe): one thread so far
  mallopt(M_MMAP_THRESHOLD, one_gibibyte);
  mallopt(M_TRIM_THRESHOLD, one_gibibyte);
  mallopt(M_TOP_PAD, 64 << 20);
  // NOLINTEND(concurrency-mt-unsafe)
}

/// run_stages; a failure of this rank alone ends all ranks. Throws AgreedError only.
int run_point(const RunContext& context, const RunOptions& options, const Process& process) {
  at::set_num_threads(process.threads.count);
  auto& failures = context.failures;
  try {
    return run_stages(context, options, process);
  } catch (const AgreedError&) {
    throw;
  } catch (const Interrupted& error) {
    failures.report_interrupt(error.exit_code(), error.what());
  } catch (const Error& error) {
    failures.report(error.exit_code(), error.what());
  } catch (const std::exception& error) {
    failures.report(kExitRunFailure, failure_text(error));
  }
  failures.end();
}

/// Owns what lives as long as the process's work, in order of creation. Throws AgreedError only.
int run_on_ranks(const MpiSession& session,
                 const SignalWatch& signals,
                 StartLimit& start,
                 const RunOptions& options) {
  const auto catalog = model_catalog();
  const auto capabilities = build_capabilities(catalog.architectures.names());
  const auto points = agree_on_points(session, options, capabilities);
  ModelHolder models(catalog);
  RunHeader header;
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing writes the environment
  const Process process = {capabilities,
                           models,
                           header,
                           threads_of_task(std::getenv, session.cpus()),
                           overlap_hindrances(std::getenv),
                           points.is_sweep()};
  if (const auto ignored = ignored_threads(std::getenv, process.threads);
      session.rank().value == 0 && !ignored.empty()) {
    log_line("warning: " + ignored);
  }
  // NOLINTEND(concurrency-mt-unsafe)
  return run_points(session, signals, points, options, [&](const auto& context, const auto& own) {
    start.done();  // all communicators are there; from now on every wait has its own bound
    return run_point(context, own, process);
  });
}

/// In front of MPI, on the first process of a launcher that ends the others with it.
void refuse_before_start(const std::optional<StartedProcesses>& started,
                         const RunOptions& options) {
  const int count = started ? std::atoi(started->count.c_str()) : 0;  // NOLINT(cert-err34-c)
  if (count >= 1 && started->ends_together && is_first_process()) {
    refuse_early(options, count, build_capabilities(model_catalog().architectures.names()));
  }
}

int run_command(int argc, char** argv, const RunOptions& options) {
  const bool is_first = is_first_process();
  // NOLINTBEGIN(concurrency-mt-unsafe): no threads yet
  const auto started = find_started_processes(std::getenv);
  if (const auto missing = find_missing_pmi(std::getenv)) {
    if (is_first) {
      log_line(*missing);
    }
    return kExitBadInput;
  }
  // NOLINTEND(concurrency-mt-unsafe)
  refuse_before_start(started, options);
  const SignalWatch signals;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing writes the environment
  StartLimit start(read_start_limit(std::getenv(kStartLimitVariable)), process_number(std::getenv));
  std::optional<GoAhead> go_ahead;
  if (is_first) {
    go_ahead.emplace();
  }
  const MpiSession session(&argc, &argv);
  go_ahead.reset();
  set_log_rank(session.rank().value);
  if (const auto lost = find_lost_ranks(started, session.world_size())) {
    if (is_first) {
      log_line(*lost);
    }
    return kExitBadInput;
  }
  try {
    return run_on_ranks(session, signals, start, options);
  } catch (const AgreedError& error) {
    if (session.rank().value == 0) {
      log_line(error.what());
    }
    return error.exit_code();
  }
}

/// All is done and closed: what LibTorch's destructors do would cost each rank a tenth of a second.
[[noreturn]] void end_run(int exit_code) {
  std::cout.flush();
  std::fflush(nullptr);
  _exit(exit_code);
}

}  // namespace
}  // namespace dovetail

int main(int argc, char** argv) {
  // A write beyond `ulimit -f` then fails, and the file is named, instead of ending the process.
  std::signal(SIGXFSZ, SIG_IGN);  // NOLINT(cert-err33-c): cannot fail for this signal
  dovetail::keep_freed_memory();
  try {
    int exit_code = 0;
    const auto line = dovetail::parse_command_line(argc, argv, exit_code);
    if (!line) {
      return exit_code;
    }
    if (line->command == "run") {
      dovetail::end_run(dovetail::run_command(argc, argv, line->run));
    }
    return dovetail::run_other_command(*line);
  } catch (const dovetail::Error& error) {
    dovetail::log_line(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    dovetail::log_line(dovetail::failure_text(error));
    return dovetail::kExitRunFailure;
  }
}
