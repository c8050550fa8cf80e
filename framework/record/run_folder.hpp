// The folders of a run: results/<experiment>-<UTC time>/<policy>/rank-00000.h5. Nothing that exists
// is ever overwritten.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "framework/record/folder_lock.hpp"

namespace dovetail {

inline constexpr const char* kExperimentFileName = "experiment.yaml";
inline constexpr const char* kViewFileName = "view.h5";
inline constexpr const char* kSummaryFileName = "summary.json";
/// Inside of a policy's folder: the run that it is compared with where the baseline will not do
/// (framework/run/reference_run.hpp).
inline constexpr const char* kReferenceFolder = "reference";
inline constexpr const char* kTraceFileName = "trace.json";

/// "2025-11-22T15:45:29Z" (ISO 8601).
std::string utc_text(std::chrono::system_clock::time_point time);

/// Makes <results>/<experiment>-20251122T154529Z, with "-2", "-3", ... behind it where another run
/// of the same second has the name. InputError where `experiment` cannot be a folder name.
std::filesystem::path create_run_folder(const std::filesystem::path& results,
                                        const std::string& experiment,
                                        std::chrono::system_clock::time_point time);

/// A folder that the user named, for the caller alone: made where it is absent; InputError where it
/// holds anything, is no folder, or another run writes into it.
FolderLock use_run_folder(const std::filesystem::path& folder);

/// Whether a folder has nothing in it but, perhaps, the lock of a run that was killed.
bool is_unused(const std::filesystem::path& folder);

/// Where a run writes.
struct RunFolder {
  std::filesystem::path path;
  std::optional<FolderLock> lock;  ///< of the process that writes the run's own files
};

/// use_run_folder of `out`; where that is empty, create_run_folder in "results".
RunFolder open_run_folder(const std::string& out,
                          const std::string& experiment,
                          std::chrono::system_clock::time_point time);

/// Makes <run>/<policy>; InputError where it exists or `policy` cannot be a folder name.
std::filesystem::path create_policy_folder(const std::filesystem::path& run,
                                           const std::string& policy);

/// "rank-00007.h5".
std::string rank_file_name(std::int64_t rank);
/// The rank in such a name; nothing where the name is another.
std::optional<std::int64_t> parse_rank_file_name(const std::string& name);

/// (rank, path) of every rank file in a policy folder, ascending by rank. InputError where the
/// folder does not exist or has none; names the policies where it is a run folder.
std::vector<std::pair<std::int64_t, std::filesystem::path>> list_rank_files(
    const std::filesystem::path& policy_folder);

/// Paths of the policy folders of a run (those with rank files), ascending by name; may be empty.
std::vector<std::filesystem::path> list_policy_folders(const std::filesystem::path& run);

/// Writes text so that the file is whole whenever it exists: a temporary beside it, then a rename,
/// which replaces an older file. RunError where that fails.
void write_file_atomically(const std::filesystem::path& path, const std::string& text);

/// The same for a JSON document, indented (summary.json).
void write_json(const std::filesystem::path& path, const nlohmann::json& document);

}  // namespace dovetail
