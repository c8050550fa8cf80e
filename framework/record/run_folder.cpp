#include "framework/record/run_folder.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <fstream>
#include <string_view>
#include <system_error>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/file_work.hpp"
#include "framework/base/working_folder.hpp"
#include "framework/record/unfinished_file.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRankPrefix = "rank-";

std::string format_utc(std::chrono::system_clock::time_point time, const char* format) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::string text(32, '\0');
  text.resize(std::strftime(text.data(), text.size(), format, &parts));
  return text;
}

void check_folder_name(const std::string& name, const char* what) {
  const bool good = !name.empty() && name.front() != '.' && name.size() <= 200 &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return c >= 0x20 && c != '/' && c != '\\' && c != 0x7f;
                    });
  if (!good) {
    throw InputError(std::string(what) + " '" + name +
                     "' cannot be a folder's name: 1 to 200 bytes, no '/', '\\' or control "
                     "character, no '.' in front");
  }
}

/// Makes a folder; false where the name is taken.
bool make_folder(const fs::path& folder) {
  std::error_code error;
  const bool made = fs::create_directory(folder, error);
  if (error && !path_exists(folder)) {
    throw InputError(folder.string() + ": cannot be made: " + error.message());
  }
  return made;
}

void require_unused(const fs::path& folder) {
  if (!is_unused(folder)) {
    throw InputError(folder.string() +
                     ": the result folder is not empty; results are never overwritten: name a "
                     "folder that is absent or empty");
  }
}

bool is_folder_of_results(const fs::path& folder) {
  std::error_code error;  // what cannot be looked at beside results is none of them
  if (!fs::is_directory(folder, error)) {
    return false;
  }
  const auto paths = list_folder(folder);
  return std::any_of(paths.begin(), paths.end(), [](const fs::path& path) {
    return parse_rank_file_name(path.filename().string()).has_value();
  });
}

}  // namespace

std::string utc_text(std::chrono::system_clock::time_point time) {
  return format_utc(time, "%Y-%m-%dT%H:%M:%SZ");
}

fs::path create_run_folder(const fs::path& results,
                           const std::string& experiment,
                           std::chrono::system_clock::time_point time) {
  check_folder_name(experiment, "experiment");
  make_folders(results);
  const std::string name = experiment + "-" + format_utc(time, "%Y%m%dT%H%M%SZ");
  fs::path folder = results / name;
  for (int number = 2; !make_folder(folder); ++number) {
    folder = results / (name + "-" + std::to_string(number));
  }
  return folder;
}

FolderLock use_run_folder(const fs::path& folder) {
  if (path_exists(folder)) {
    if (!is_folder(folder)) {
      throw InputError(folder.string() + ": the result folder is not a folder");
    }
    require_unused(folder);  // before a lock is left in a folder of others
  }
  make_folders(folder);
  FolderLock lock(folder);
  require_unused(folder);  // another run may have come and gone
  return lock;
}

RunFolder open_run_folder(const std::string& out,
                          const std::string& experiment,
                          std::chrono::system_clock::time_point time) {
  if (!out.empty()) {
    return {out, use_run_folder(out)};
  }
  auto folder = create_run_folder("results", experiment, time);
  FolderLock lock(folder);
  return {std::move(folder), std::move(lock)};
}

bool is_unused(const fs::path& folder) {
  const auto paths = list_folder(folder);
  return std::all_of(paths.begin(), paths.end(), [](const fs::path& path) {
    return path.filename() == kLockFileName;
  });
}

fs::path create_policy_folder(const fs::path& run, const std::string& policy) {
  check_folder_name(policy, "policy");
  fs::path folder = run / policy;
  if (!make_folder(folder)) {
    refuse_existing(folder);
  }
  return folder;
}

std::string rank_file_name(std::int64_t rank) {
  std::string digits = std::to_string(rank);
  digits.insert(0, digits.size() < 5 ? 5 - digits.size() : 0, '0');
  return "rank-" + digits + ".h5";
}

std::optional<std::int64_t> parse_rank_file_name(const std::string& name) {
  if (!name.starts_with(kRankPrefix)) {
    return std::nullopt;
  }
  std::int64_t rank = -1;
  std::from_chars(name.data() + kRankPrefix.size(), name.data() + name.size(), rank);
  // Only the one spelling that rank_file_name gives.
  return rank >= 0 && rank_file_name(rank) == name ? std::optional(rank) : std::nullopt;
}

std::vector<std::pair<std::int64_t, fs::path>> list_rank_files(const fs::path& policy_folder) {
  if (!is_folder(policy_folder)) {
    throw InputError(policy_folder.string() + ": no such folder" +
                     working_folder_note(policy_folder));
  }
  std::vector<std::pair<std::int64_t, fs::path>> files;
  for (auto& path : list_folder(policy_folder)) {
    if (const auto rank = parse_rank_file_name(path.filename().string())) {
      files.emplace_back(*rank, std::move(path));
    }
  }
  if (files.empty()) {
    std::string policies;
    for (const auto& folder : list_policy_folders(policy_folder)) {
      policies += (policies.empty() ? "" : ", ") + folder.filename().string();
    }
    throw InputError(policy_folder.string() + ": holds no rank file (rank-00000.h5, ...)" +
                     (policies.empty() ? "" : "; it is a run with the policies " + policies));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<fs::path> list_policy_folders(const fs::path& run) {
  if (!is_folder(run)) {
    throw InputError(run.string() + ": no such folder" + working_folder_note(run));
  }
  std::vector<fs::path> folders;
  for (auto& path : list_folder(run)) {
    if (is_folder_of_results(path)) {
      folders.push_back(std::move(path));
    }
  }
  return folders;
}

void write_file_atomically(const fs::path& path, const std::string& text) {
  const FileWork work(path.native());
  UnfinishedFile unfinished(unfinished_name(path));
  errno = 0;
  std::ofstream stream(unfinished.path(), std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (!stream) {
    throw RunError(path.string() +
                   ": cannot be written: " + std::generic_category().message(errno));
  }
  unfinished.replace(path);
}

void write_json(const fs::path& path, const nlohmann::json& document) {
  write_file_atomically(path, document.dump(2) + "\n");
}

}  // namespace dovetail
