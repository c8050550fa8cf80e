#include "framework/run/versions.hpp"

#include <torch/version.h>

#include "framework/cuda/devices.hpp"
#include "framework/mpi/session.hpp"
#include "framework/record/run_info.hpp"

namespace dovetail {

std::vector<std::pair<std::string, std::string>> all_versions() {
  auto versions = build_facts();
  versions.emplace_back("torch_compiled", TORCH_VERSION);
  versions.emplace_back("mpi_compiled", MpiSession::compiled_version());
  versions.emplace_back("mpi_loaded", MpiSession::library_version());
  versions.emplace_back("cuda", cuda_versions());
  return versions;
}

}  // namespace dovetail
