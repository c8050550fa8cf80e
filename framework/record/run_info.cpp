#include "framework/record/run_info.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <unistd.h>

#include "framework/record/hdf5.hpp"

namespace dovetail {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 2);
    }
  }
  return "unknown";
}

std::vector<std::pair<std::string, std::string>> build_facts() {
  return {
      {"git_revision", git_revision()},
      {"compiler", "g++ " __VERSION__},
      {"build_type", DOVETAIL_BUILD_TYPE},
      {"hdf5_compiled", hdf5::compiled_version()},
      {"hdf5_loaded", hdf5::loaded_version()},
      {"cpu", cpu_name()},
      {"cores", std::to_string(sysconf(_SC_NPROCESSORS_ONLN))},
  };
}

std::string relevant_environment() {
  constexpr std::array<std::string_view, 8> prefixes = {
      "OMP_", "OMPI_MCA_", "MKL_", "NCCL_", "CUDA_", "SLURM_", "DOVETAIL_", "LD_LIBRARY_PATH="};
  std::vector<std::string> lines;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line(*entry);
    if (std::any_of(prefixes.begin(), prefixes.end(), [line](std::string_view prefix) {
          return line.starts_with(prefix);
        })) {
      lines.emplace_back(line);
    }
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const auto& line : lines) {
    text += line + "\n";
  }
  return text;
}

std::string quoted_command(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    const bool plain =
        !word.empty() && word.find_first_of(" \t\n'\"\\$&;|<>()*?[]{}#~`!") == std::string::npos;
    text += text.empty() ? "" : " ";
    if (plain) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char character : word) {
      text += character == '\'' ? std::string("'\\''") : std::string(1, character);
    }
    text += '\'';
  }
  return text;
}

std::string command_line(int argc, const char* const* argv) {
  return quoted_command({argv, argv + argc});
}

}  // namespace dovetail
