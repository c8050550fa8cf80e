#include "framework/record/policy_folder.hpp"

#include <algorithm>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

RankEntry open_entry(const fs::path& path, std::int64_t rank) {
  RankEntry entry{rank, path, std::nullopt, ""};
  try {
    entry.file.emplace(path);
  } catch (const InputError& error) {
    entry.problem = error.what();
  }
  return entry;
}

void check_same(const RankFile& file, const RankFile& first, const char* name) {
  if (file.text(name) != first.text(name)) {
    throw InputError(file.path().string() + ": " + name + " '" + printable(file.text(name)) +
                     "' differs from '" + printable(first.text(name)) + "' in " +
                     first.path().string());
  }
}

void check_entry(const RankEntry& entry, const RankFile& first) {
  const RankFile& file = *entry.file;
  if (file.rank() != entry.rank) {
    throw InputError(file.path().string() + ": says that it is rank " +
                     std::to_string(file.rank()));
  }
  if (file.world_size() != first.world_size()) {
    throw InputError(file.path().string() + ": world size " + std::to_string(file.world_size()) +
                     " differs from " + std::to_string(first.world_size()) + " in " +
                     first.path().string());
  }
  check_same(file, first, attribute::kPolicy);
  check_same(file, first, attribute::kExperiment);
}

}  // namespace

PolicyFolder::PolicyFolder(const fs::path& path) : path_(path) {
  const auto files = list_rank_files(path);
  std::vector<RankEntry> found;
  found.reserve(files.size());
  for (const auto& [rank, file] : files) {
    found.push_back(open_entry(file, rank));
  }
  const auto first = std::find_if(
      found.begin(), found.end(), [](const auto& entry) { return entry.file.has_value(); });
  if (first == found.end()) {
    throw InputError(found.front().problem);
  }
  const std::int64_t world_size = first->file->world_size();
  for (const auto& entry : found) {
    if (entry.rank >= world_size) {
      throw InputError(entry.path.string() + ": beyond the world of " +
                       counted(world_size, "rank") + " in " + first->path.string());
    }
    if (entry.file) {
      check_entry(entry, *first->file);
    }
  }
  auto next = found.begin();
  for (std::int64_t rank = 0; rank < world_size; ++rank) {
    if (next != found.end() && next->rank == rank) {
      ranks_.push_back(std::move(*next++));
    } else {
      ranks_.push_back({rank, path / rank_file_name(rank), std::nullopt, kMissing});
    }
  }
}

const RankFile& PolicyFolder::rank(std::int64_t rank) const {
  if (rank < 0 || rank >= world_size()) {
    throw InputError(path_.string() + ": no rank " + std::to_string(rank) + " in a world of " +
                     std::to_string(world_size()));
  }
  const auto& entry = ranks_[static_cast<std::size_t>(rank)];
  if (!entry.file) {
    throw InputError(path_.string() + ": rank " + std::to_string(rank) + ": " + entry.problem);
  }
  return *entry.file;
}

std::vector<std::int64_t> PolicyFolder::missing_ranks() const {
  std::vector<std::int64_t> missing;
  for (const auto& entry : ranks_) {
    if (!entry.file) {
      missing.push_back(entry.rank);
    }
  }
  return missing;
}

void PolicyFolder::require_complete() const {
  std::string problems;
  const auto add = [&](const RankEntry& entry, const std::string& problem) {
    problems +=
        (problems.empty() ? "" : "; ") + ("rank " + std::to_string(entry.rank)) + ": " + problem;
  };
  for (const auto& entry : ranks_) {
    if (!entry.file) {
      add(entry, entry.problem);
    } else if (entry.file->status() != RunStatus::complete) {
      const std::string failure = entry.file->failure();
      add(entry,
          "status " + std::string(to_string(entry.file->status())) +
              (failure.empty() ? "" : " (" + failure + ")"));
    }
  }
  if (!problems.empty()) {
    throw InputError(path_.string() + ": not a complete result: " + problems);
  }
}

}  // namespace dovetail
