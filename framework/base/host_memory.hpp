// How much memory the processes of this host may use together.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace dovetail {

struct HostMemory {
  std::int64_t bytes = 0;
  std::string source;  ///< what says so: "MemTotal of this host" or "cgroup limit"

  friend bool operator==(const HostMemory&, const HostMemory&) = default;
};

/// The memory of the host, or the least limit of the control groups (version 1 or 2) that this
/// process is in, where that is less; nothing where the host does not say. `root` is where /proc
/// and /sys are, for tests.
std::optional<HostMemory> host_memory(const std::filesystem::path& root = "/");

}  // namespace dovetail
