#include "framework/cuda/nccl_version.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include <nccl.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

std::string join_paths(const std::vector<std::string>& paths) {
  std::string text;
  for (const auto& path : paths) {
    text += (text.empty() ? "" : ", ") + path;
  }
  return text;
}

}  // namespace

std::vector<std::string> nccl_paths(std::string_view maps) {
  std::vector<std::string> paths;
  while (!maps.empty()) {
    const auto end = maps.find('\n');
    const auto line = maps.substr(0, end);
    maps.remove_prefix(end == std::string_view::npos ? maps.size() : end + 1);
    const auto begin = line.find('/');
    const auto name = line.rfind('/');
    if (begin == std::string_view::npos ||
        line.substr(name + 1).substr(0, 10) != std::string_view("libnccl.so")) {
      continue;
    }
    const std::string path(line.substr(begin));
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) {
      paths.push_back(path);
    }
  }
  return paths;
}

NcclLibrary find_nccl() {
  NcclLibrary library{.compiled = NCCL_VERSION_CODE, .loaded = 0, .paths = {}};
  if (ncclGetVersion(&library.loaded) != ncclSuccess) {
    library.loaded = 0;
  }
  std::ifstream file("/proc/self/maps");
  const std::string maps((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  library.paths = nccl_paths(maps);
  return library;
}

std::string nccl_version_text(int code) {
  return std::to_string(code / 10000) + "." + std::to_string(code / 100 % 100) + "." +
         std::to_string(code % 100);
}

std::string describe(const NcclLibrary& library) {
  return "NCCL " + nccl_version_text(library.loaded) + " (compiled for " +
         nccl_version_text(library.compiled) + "): " + join_paths(library.paths);
}

void check_nccl(const NcclLibrary& library) {
  if (library.compiled != library.loaded) {
    throw RunError("NCCL " + nccl_version_text(library.loaded) +
                   " is loaded, but this program is compiled for " +
                   nccl_version_text(library.compiled) + "; refused. Loaded from " +
                   join_paths(library.paths));
  }
  if (library.paths.size() > 1) {
    throw RunError("more than one NCCL is loaded; refused: " + join_paths(library.paths));
  }
}

}  // namespace dovetail
