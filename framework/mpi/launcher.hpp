// How many processes a launcher says that it has started, beside the ranks that MPI knows of.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace dovetail {

/// The value of an environment variable; null = not set.
using ReadVariable = std::function<const char*(const char* name)>;

/// What the launcher says of this process's start.
struct StartedProcesses {
  std::string launcher;
  std::string variable;  ///< that says so
  std::string count;
  bool ends_together = false;  ///< it ends all processes where one ends with an error
};

/// Nothing where no launcher has started this process. Call before MPI_Init, which sets such
/// variables itself. Pure.
std::optional<StartedProcesses> find_started_processes(const ReadVariable& variable);

/// This process among those that the launcher has started, from 0; 0 where none says. Pure.
int process_number(const ReadVariable& variable);

/// A launcher whose processes MPI does not know as its ranks (srun without PMIx, mpirun of another
/// MPI) starts as many worlds of one rank, each of which would run the whole experiment and might
/// call itself verified. Returns what is wrong, and how to start instead; nothing where the
/// launcher's number is `world_size`, or where no launcher says one. Pure.
std::optional<std::string> find_lost_ranks(const std::optional<StartedProcesses>& started,
                                           int world_size);

/// Ranks that srun has started without the interface by which MPI finds its ranks: Open MPI would
/// end each of them with a page of text and exit code 1. Returns what is wrong, and how to start
/// instead. Call before MPI_Init. Pure.
std::optional<std::string> find_missing_pmi(const ReadVariable& variable);

}  // namespace dovetail
