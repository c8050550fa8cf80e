#include "framework/mpi/launcher.hpp"

#include <array>

#include "framework/base/text.hpp"

namespace dovetail {
namespace {

struct LauncherSize {
  const char* variable;
  const char* launcher;
  /// Set in each process that the launcher itself has started; null = the size says so.
  const char* process_variable;
};

/// The innermost launcher first: mpirun inside of a Slurm job starts as many as it was told.
constexpr std::array<LauncherSize, 4> kSizes = {{
    {"OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun", nullptr},
    {"PMI_SIZE", "a launcher that speaks PMI", nullptr},
    {"SLURM_STEP_NUM_TASKS", "Slurm", "SLURM_PROCID"},
    {"SLURM_NTASKS", "Slurm", "SLURM_PROCID"},
}};

}  // namespace

std::optional<StartedProcesses> find_started_processes(const ReadVariable& variable) {
  for (const auto& size : kSizes) {
    const char* count = variable(size.variable);
    const bool is_of_this_process =
        size.process_variable == nullptr || variable(size.process_variable) != nullptr;
    if (count != nullptr && is_of_this_process) {
      return StartedProcesses{size.launcher, size.variable, count};
    }
  }
  return std::nullopt;
}

std::optional<std::string> find_lost_ranks(const std::optional<StartedProcesses>& started,
                                           int world_size) {
  if (!started || started->count == std::to_string(world_size)) {
    return std::nullopt;
  }
  return started->launcher + " has started " + printable(started->count) + " processes (" +
         started->variable + "), but MPI knows of " + counted(world_size, "rank") +
         ": each world would run the experiment by itself; start it with the mpirun of the Open "
         "MPI "
         "that Dovetail was built with, also inside of a Slurm job, or with srun --mpi=pmix where "
         "Slurm has PMIx";
}

}  // namespace dovetail
