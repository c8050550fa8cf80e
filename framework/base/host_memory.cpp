#include "framework/base/host_memory.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace dovetail {
namespace {

namespace fs = std::filesystem;

std::optional<std::int64_t> total_bytes(const fs::path& root) {
  std::ifstream lines(root / "proc/meminfo");
  std::string name;
  std::int64_t kibibytes = 0;
  std::string unit;
  while (lines >> name >> kibibytes && std::getline(lines, unit)) {
    if (name == "MemTotal:") {
      return kibibytes * 1024;
    }
  }
  return std::nullopt;
}

/// The least of the limits of a group and of all groups above it. A container may not see the
/// folder of its own group, but it sees one above. "max" and the largest number mean no limit.
std::optional<std::int64_t> least_limit(const fs::path& top, fs::path group, const char* file) {
  std::optional<std::int64_t> least;
  for (group = group.relative_path();; group = group.parent_path()) {
    std::int64_t limit = 0;
    if (std::ifstream(top / group / file) >> limit) {
      least = std::min(limit, least.value_or(limit));
    }
    if (group.empty()) {
      return least;
    }
  }
}

/// A line of /proc/self/cgroup is "NUMBER:CONTROLLERS:PATH"; of version 2 it names no controllers.
std::optional<std::int64_t> cgroup_limit(const fs::path& root) {
  const auto top = root / "sys/fs/cgroup";
  std::optional<std::int64_t> least;
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream parts(line);
    std::string number;
    std::string controllers;
    std::string group;
    std::getline(parts, number, ':');
    std::getline(parts, controllers, ':');
    std::getline(parts, group);
    std::optional<std::int64_t> limit;
    if (controllers.empty()) {
      limit = least_limit(top, group, "memory.max");
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      limit = least_limit(top / "memory", group, "memory.limit_in_bytes");
    }
    if (limit) {
      least = std::min(*limit, least.value_or(*limit));
    }
  }
  return least;
}

}  // namespace

std::optional<HostMemory> host_memory(const fs::path& root) {
  const auto total = total_bytes(root);
  const auto limit = cgroup_limit(root);
  if (limit && (!total || *limit < *total)) {
    return HostMemory{*limit, "cgroup limit"};
  }
  if (total) {
    return HostMemory{*total, "MemTotal of this host"};
  }
  return std::nullopt;
}

}  // namespace dovetail
