// Which NCCL this program was compiled for and which one the process has loaded. Two copies in one
// process, or another version than the headers', break in ways that are hard to trace.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dovetail {

struct NcclLibrary {
  int compiled = 0;                ///< NCCL's version code of the headers, 22809 = 2.28.9
  int loaded = 0;                  ///< of the library that calls reach; 0 = could not be asked
  std::vector<std::string> paths;  ///< files named libnccl.so* in this process, each once
};

/// The files named libnccl.so* in the text of a /proc/<pid>/maps, each once. Pure.
std::vector<std::string> nccl_paths(std::string_view maps);

/// What this process has. Never throws for a missing library.
NcclLibrary find_nccl();

/// "2.28.9". Pure.
std::string nccl_version_text(int code);

/// "NCCL 2.28.9 (compiled for 2.28.9): /path/libnccl.so.2"; for people. Pure.
std::string describe(const NcclLibrary& library);

/// Throws RunError that names both versions where they differ, and all paths where more than one
/// library is loaded. Pure.
void check_nccl(const NcclLibrary& library);

}  // namespace dovetail
