// dovetail: the executable. `run` is here and reads as the way of the data; the other subcommands
// are in commands.hpp.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <malloc.h>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <ATen/Parallel.h>

#include "framework/base/failure_text.hpp"
#include "framework/base/log.hpp"
#include "framework/base/task_threads.hpp"
#include "framework/mpi/clock.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/check_fault.hpp"
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
#include "launch/start_ranks.hpp"
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
  if (!result.stopped) {
    run_on_all_ranks(
        ranks.groups.world, ranks.wait, [&] { require_faults_happened(context.experiment); });
  }
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
int run_on_ranks(const StartedRank& rank, const RunOptions& options) {
  const auto& session = rank.session;
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
  return run_points(
      session, rank.signals, points, options, [&](const auto& context, const auto& own) {
        rank.start.done();  // all communicators are there: from now on every wait has its own bound
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

int run_command(const RunOptions& options) {
  const auto work = [&](const StartedRank& rank) {
    try {
      return run_on_ranks(rank, options);
    } catch (const AgreedError& error) {
      if (rank.session.rank().value == 0) {
        log_line(error.what());
      }
      return error.exit_code();
    }
  };
  return start_ranks(work, [&](const auto& started) { refuse_before_start(started, options); });
}

/// Whoever reads the output must not take a part of it for all. A code that says something else
/// stays.
int check_output(int exit_code) {
  errno = 0;
  std::cout.flush();
  const bool is_written = std::cout.good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (is_written) {
    return exit_code;
  }
  log_line("the output cannot be written" +
           (errno == 0 ? std::string() : ": " + std::generic_category().message(errno)));
  return exit_code == kExitDone ? kExitRunFailure : exit_code;
}

/// All is done and closed: what LibTorch's destructors do would cost a process a tenth of a second.
[[noreturn]] void end_process(int exit_code) {
  exit_code = check_output(exit_code);
  std::fflush(nullptr);
  _exit(exit_code);
}

int run_any_command(int argc, char** argv) {
  try {
    int exit_code = 0;
    const auto line = parse_command_line(argc, argv, exit_code);
    if (!line) {
      return exit_code;
    }
    if (line->command == "run") {
      return run_command(line->run);
    }
    return run_other_command(*line);
  } catch (const Error& error) {
    log_line(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    log_line(failure_text(error));
    return kExitRunFailure;
  }
}

}  // namespace
}  // namespace dovetail

int main(int argc, char** argv) {
  // A write beyond `ulimit -f` then fails, and the file is named, instead of ending the process.
  std::signal(SIGXFSZ, SIG_IGN);  // NOLINT(cert-err33-c): cannot fail for this signal
  dovetail::keep_freed_memory();
  dovetail::end_process(dovetail::run_any_command(argc, argv));
}
