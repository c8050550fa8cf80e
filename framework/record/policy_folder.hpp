// Reading all rank files of one policy of a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/record/reader.hpp"

namespace dovetail {

/// RankEntry::problem of a rank without a file.
inline constexpr const char* kMissing = "missing";

/// One rank of a policy folder.
struct RankEntry {
  std::int64_t rank = 0;
  std::filesystem::path path;    ///< where the file is or would be
  std::optional<RankFile> file;  ///< nothing = missing or not readable
  std::string problem;           ///< why there is no file: "missing" or the reader's message
};

/// All rank files of one policy of a run.
class PolicyFolder {
 public:
  /// Opens every rank file. InputError where the folder does not exist, holds no readable rank
  /// file, or holds files that contradict one another (world size, policy, a rank that differs from
  /// the file's name, a rank beyond the world). Missing and unreadable ranks are kept as entries.
  explicit PolicyFolder(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }

  std::int64_t world_size() const { return static_cast<std::int64_t>(ranks_.size()); }

  /// One entry for each rank of the world, ascending.
  const std::vector<RankEntry>& ranks() const { return ranks_; }

  /// The file of a rank; InputError where it is missing or not readable.
  const RankFile& rank(std::int64_t rank) const;

  /// Ranks without a readable file, ascending.
  std::vector<std::int64_t> missing_ranks() const;

  /// InputError that names every rank that is missing, not readable or not complete.
  void require_complete() const;

 private:
  std::filesystem::path path_;
  std::vector<RankEntry> ranks_;
};

}  // namespace dovetail
