// `run --resume DIR`: a run that was ended early goes on in its own folder. A policy is complete or
// not, by its own files: one that is stays as it is, and one that is not is measured again, from
// its first iteration, with what it had left kept in DIR/unfinished. Nothing is overwritten or
// removed.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/schema.hpp"
#include "framework/run/run_options.hpp"

namespace dovetail {

/// Inside of a run's folder: what policies had left that were measured again.
inline constexpr const char* kUnfinishedFolder = "unfinished";

/// Throws InputError unless the folder is that of a run of this experiment on as many ranks; says
/// what differs.
void check_earlier_run(const std::filesystem::path& folder,
                       const Experiment& experiment,
                       int num_ranks);

/// Throws InputError where a complete rank file is of another build than a file of `spec` would be;
/// one that is not complete, or cannot be read, is measured again and need not be of this one.
void require_same_build(const std::filesystem::path& rank_file, const RankFileSpec& spec);

/// The exit code of a run that has nothing left to do, for the reason that is printed; nothing
/// where there is something. Throws as check_earlier_run.
std::optional<int> exit_code_of_complete_run(const std::filesystem::path& folder,
                                             const Experiment& experiment,
                                             int num_ranks);

/// The folder, for the caller alone. Throws as check_earlier_run, and where another run writes into
/// it.
RunFolder open_earlier_run(const std::filesystem::path& folder,
                           const Experiment& experiment,
                           int num_ranks);

/// Makes the folder of a policy that is measured again, named by its path below the run's folder.
/// What is there moves to <run>/unfinished/<policy>, <policy>.2, ...; returns where to, empty where
/// there was nothing.
std::filesystem::path make_folder_anew(const std::filesystem::path& run,
                                       const std::filesystem::path& policy);

/// The command that goes on with a run.
std::string how_to_resume(const RunOptions& options,
                          const std::filesystem::path& folder,
                          int num_ranks);

}  // namespace dovetail
