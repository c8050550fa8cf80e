#include "framework/run/resumed_run.hpp"

#include <algorithm>
#include <array>
#include <iostream>
#include <sstream>
#include <string_view>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/compare/sweep_result.hpp"
#include "framework/config/dump.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/run_info.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line.substr(std::min(line.find_first_not_of(' '), line.size())));
  }
  return lines;
}

/// "line 12 is 'iterations: 5', here 'iterations: 6'" of two texts that differ.
std::string describe_difference(const std::string& recorded, const std::string& own) {
  const auto before = lines_of(recorded);
  const auto now = lines_of(own);
  const auto [a, b] = std::mismatch(before.begin(), before.end(), now.begin(), now.end());
  const auto quoted = [](const auto& line, const auto& end) {
    return line == end ? std::string("not there") : "'" + printable(*line) + "'";
  };
  return "line " + std::to_string(a - before.begin() + 1) + " is " + quoted(a, before.end()) +
         ", here " + quoted(b, now.end());
}

/// Of all_versions those that tell builds apart, and not machines.
constexpr std::array<std::string_view, 9> kBuildAttributes = {"git_revision",
                                                              "compiler",
                                                              "build_type",
                                                              "hdf5_compiled",
                                                              "hdf5_loaded",
                                                              "torch_compiled",
                                                              "mpi_compiled",
                                                              "mpi_loaded",
                                                              "cuda"};

/// The number of ranks that any rank file of a policy says; nothing where none can be read.
std::optional<std::int64_t> world_size_of(const fs::path& policy) {
  if (!is_folder(policy)) {
    return std::nullopt;
  }
  for (const auto& path : list_folder(policy)) {
    if (!parse_rank_file_name(path.filename().string())) {
      continue;
    }
    try {
      return RankFile(path).world_size();
    } catch (const InputError&) {
      continue;  // cut off while it was made
    }
  }
  return std::nullopt;
}

}  // namespace

void check_earlier_run(const fs::path& folder, const Experiment& experiment, int num_ranks) {
  const auto file = (folder / kExperimentFileName).string();
  const auto recorded = read_text_file(file, kRecordedExperimentText);
  if (const auto own = dump(experiment); recorded != own) {
    throw InputError(file + ": is another experiment: " + describe_difference(recorded, own) +
                     "; go on with the same file, --set and --policy, or name a new folder with "
                     "--out");
  }
  for (const auto& policy : experiment.policies) {
    const auto world_size = world_size_of(folder / policy.name);
    if (world_size && *world_size != num_ranks) {
      throw InputError(folder.string() + ": this run was begun on " + counted(*world_size, "rank") +
                       ", these are " + std::to_string(num_ranks) +
                       "; go on with as many, or name a new folder with --out");
    }
  }
}

void require_same_build(const fs::path& rank_file, const RankFileSpec& spec) {
  std::string problem;
  try {
    const RankFile file(rank_file);
    const auto recorded = file.attributes();
    for (const auto& own : spec.attributes) {
      const bool is_of_build =
          std::find(kBuildAttributes.begin(), kBuildAttributes.end(), own.name) !=
          kBuildAttributes.end();
      if (is_of_build && file.status() == RunStatus::complete &&
          std::find(recorded.begin(), recorded.end(), own) == recorded.end()) {
        const auto before = file.has_attribute(own.name) ? file.text(own.name) : "";
        problem = own.name + " is '" + printable(before) + "', here '" +
                  printable(std::get<std::string>(own.value)) + "'";
        break;
      }
    }
  } catch (const InputError&) {
    return;
  }
  if (!problem.empty()) {
    throw InputError(rank_file.string() + ": was written by another build: " + problem +
                     "; go on with that one, or name a new folder with --out");
  }
}

std::optional<int> exit_code_of_complete_run(const fs::path& folder,
                                             const Experiment& experiment,
                                             int num_ranks) {
  check_earlier_run(folder, experiment, num_ranks);
  const auto status = read_sweep_point(folder, experiment).status;
  if (status != SweepPointStatus::complete && status != SweepPointStatus::mismatch) {
    return std::nullopt;
  }
  const bool is_mismatch = status == SweepPointStatus::mismatch;
  std::cout << "nothing to do: all policies of " << folder.string() << " are complete"
            << (is_mismatch ? ", and there is a mismatch" : "") << std::endl;
  return is_mismatch ? kExitMismatch : kExitDone;
}

RunFolder open_earlier_run(const fs::path& folder, const Experiment& experiment, int num_ranks) {
  check_earlier_run(folder, experiment, num_ranks);
  return {folder, FolderLock(folder)};
}

fs::path make_folder_anew(const fs::path& run, const fs::path& policy) {
  const auto folder = run / policy;
  fs::path kept;
  if (is_name_taken(folder)) {
    if (is_folder(folder) && list_folder(folder).empty()) {
      return kept;
    }
    std::string name = policy.string();
    std::replace(name.begin(), name.end(), '/', '.');
    kept = run / kUnfinishedFolder / name;
    make_folders(run / kUnfinishedFolder);
    for (int number = 2; is_name_taken(kept); ++number) {
      kept = run / kUnfinishedFolder / (name + "." + std::to_string(number));
    }
    move_to_new_name(folder, kept);
  }
  make_folders(folder);
  return kept;
}

std::string how_to_resume(const RunOptions& options, const fs::path& folder, int num_ranks) {
  std::vector<std::string> command = {options.program, "run", "--resume", folder.string()};
  if (num_ranks > 1) {
    command.insert(command.begin(), {"mpirun", "-np", std::to_string(num_ranks)});
  }
  return "to go on: " + quoted_command(command);
}

}  // namespace dovetail
