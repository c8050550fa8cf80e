#include "framework/mpi/launcher.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "framework/base/text.hpp"

namespace dovetail {
namespace {

struct LauncherSize {
  const char* variable;
  const char* launcher;
  /// Set in each process that the launcher itself has started; null = the size says so.
  const char* process_variable;
};

/// The innermost launcher first: mpirun inside of a Slurm job starts as many as it was told. It is
/// the one that ends all processes with the first that fails; srun does so where it was asked to.
constexpr std::array<LauncherSize, 4> kSizes = {{
    {"OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun", nullptr},
    {"PMI_SIZE", "a launcher that speaks PMI", nullptr},
    {"SLURM_STEP_NUM_TASKS", "Slurm", "SLURM_PROCID"},
    {"SLURM_NTASKS", "Slurm", "SLURM_PROCID"},
}};

constexpr const char* kHowToStart =
    "start it with the mpirun of the Open MPI that Dovetail was built with, also inside of a Slurm "
    "job, or with srun --mpi=pmix where Slurm has PMIx";

}  // namespace

std::optional<StartedProcesses> find_started_processes(const ReadVariable& variable) {
  for (const auto& size : kSizes) {
    const char* count = variable(size.variable);
    const bool is_of_this_process =
        size.process_variable == nullptr || variable(size.process_variable) != nullptr;
    if (count != nullptr && is_of_this_process) {
      return StartedProcesses{size.launcher, size.variable, count, &size == &kSizes.front()};
    }
  }
  return std::nullopt;
}

int process_number(const ReadVariable& variable) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* number = variable(name)) {
      return std::max(0, std::atoi(number));  // NOLINT(cert-err34-c): 0 is well
    }
  }
  return 0;
}

std::optional<std::string> find_lost_ranks(const std::optional<StartedProcesses>& started,
                                           int world_size) {
  if (!started || started->count == std::to_string(world_size)) {
    return std::nullopt;
  }
  return started->launcher + " has started " + printable(started->count) + " processes (" +
         started->variable + "), but MPI knows of " + counted(world_size, "rank") +
         ": each world would run the experiment by itself; " + kHowToStart;
}

std::optional<std::string> find_missing_pmi(const ReadVariable& variable) {
  const char* count = variable("SLURM_STEP_NUM_TASKS");
  if (count == nullptr || variable("SLURM_PROCID") == nullptr) {
    return std::nullopt;
  }
  for (const char* connected : {"PMIX_RANK", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_RANK"}) {
    if (variable(connected) != nullptr) {
      return std::nullopt;
    }
  }
  return "Slurm has started " + printable(count) +
         " processes (SLURM_STEP_NUM_TASKS), and MPI has no way to find them (no PMIX_RANK): " +
         kHowToStart;
}

}  // namespace dovetail
