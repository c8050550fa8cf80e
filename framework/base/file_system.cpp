#include "framework/base/file_system.hpp"

#include <algorithm>
#include <string>
#include <system_error>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what, const std::error_code& error) {
  throw InputError(path.string() + ": " + what + ": " + error.message());
}

/// `error` of a status call says nothing where the file is merely not there.
fs::file_type type_of(const fs::path& path, const fs::file_status& status, std::error_code error) {
  if (!fs::status_known(status)) {
    fail(path, "cannot be looked at", error);
  }
  return status.type();
}

fs::file_type type_of(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  return type_of(path, status, error);
}

}  // namespace

bool path_exists(const fs::path& path) {
  return type_of(path) != fs::file_type::not_found;
}

bool is_name_taken(const fs::path& path) {
  std::error_code error;
  const auto status = fs::symlink_status(path, error);
  return type_of(path, status, error) != fs::file_type::not_found;
}

bool is_folder(const fs::path& path) {
  return type_of(path) == fs::file_type::directory;
}

bool is_plain_file(const fs::path& path) {
  return type_of(path) == fs::file_type::regular;
}

std::vector<fs::path> list_folder(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  fs::directory_iterator entry(folder, error);
  while (!error && entry != fs::directory_iterator()) {
    paths.push_back(entry->path());
    entry.increment(error);
  }
  if (error) {
    fail(folder, "cannot be read", error);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool is_same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  for (const auto& path :
       {a, b}) {  // where one of the two is there, some libraries say `different`
    if (!path_exists(path)) {
      fail(path, "cannot be looked at", std::make_error_code(std::errc::no_such_file_or_directory));
    }
  }
  const bool is_same = fs::equivalent(a, b, error);
  if (error) {
    fail(a, ("cannot be compared with " + b.string()).c_str(), error);
  }
  return is_same;
}

fs::path real_path_of(const fs::path& path) {
  std::error_code error;
  auto real = fs::weakly_canonical(path, error);
  if (error) {
    fail(path, "cannot be looked at", error);
  }
  return real;
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    fail(folder, "cannot be made", error);
  }
}

void move_to_new_name(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (is_name_taken(to)) {
    error = std::make_error_code(std::errc::file_exists);
  } else {
    fs::rename(from, to, error);
  }
  if (error) {
    fail(from, ("cannot be moved to " + to.string()).c_str(), error);
  }
}

fs::path temporary_folder() {
  std::error_code error;
  auto folder = fs::temp_directory_path(error);
  if (error) {
    throw InputError("TMPDIR: no folder for temporary files: " + error.message());
  }
  return folder;
}

}  // namespace dovetail
