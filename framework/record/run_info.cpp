#include "framework/record/run_info.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <unistd.h>

#include "framework/record/hdf5.hpp"

namespace dovetail {
namespace {

// launch/collect_environment.sh has the same three lists; a test compares what both take. Results
// are passed on, and launchers keep credentials in the environment (SLURM_JWT), so theirs are named
// one by one. Settings of libraries are too many for that.
constexpr std::array<std::string_view, 5> kRecordedPrefixes = {
    "OMP_", "MKL_", "NCCL_", "CUDA_", "DOVETAIL_"};

constexpr std::array<std::string_view, 10> kSecretWords = {
    "TOKEN", "JWT", "KEY", "SECRET", "PASSW", "CREDENTIAL", "AUTH", "COOKIE", "SESSION", "CERT"};

constexpr std::array<std::string_view, 38> kRecordedVariables = {
    "LD_LIBRARY_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "UCX_TLS",
    "UCX_NET_DEVICES",
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NUM_NODES",
    "SLURM_NNODES",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_CPUS_PER_TASK",
    "SLURM_CPUS_ON_NODE",
    "SLURM_CPU_BIND",
    "SLURM_MEM_PER_NODE",
    "SLURM_GPUS_ON_NODE",
    "SLURM_GPUS_PER_NODE",
    "SLURM_GPUS_PER_TASK",
    "SLURM_JOB_PARTITION",
    "SLURM_MPI_TYPE",
    "PMIX_RANK",
    "PMI_RANK",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_MCA_mpi_yield_when_idle",
    "OMPI_MCA_btl",
    "OMPI_MCA_pml",
    "OMPI_MCA_btl_vader_single_copy_mechanism",
    "OMPI_MCA_smsc",
    "OMPI_MCA_hwloc_base_binding_policy"};

}  // namespace

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

bool is_recorded_variable(std::string_view name) {
  const auto starts = [name](std::string_view prefix) { return name.starts_with(prefix); };
  const auto holds = [name](std::string_view word) { return name.find(word) != name.npos; };
  if (std::any_of(kSecretWords.begin(), kSecretWords.end(), holds)) {
    return false;
  }
  return std::any_of(kRecordedPrefixes.begin(), kRecordedPrefixes.end(), starts) ||
         std::find(kRecordedVariables.begin(), kRecordedVariables.end(), name) !=
             kRecordedVariables.end();
}

std::string relevant_environment() {
  std::vector<std::string> lines;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line(*entry);
    if (is_recorded_variable(line.substr(0, line.find('=')))) {
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
