// `dovetail info`: what this build is and what there is to choose from.
#include <iostream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/session.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/stages.hpp"
#include "framework/record/run_info.hpp"
#include "framework/run/versions.hpp"
#include "launch/commands.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

struct Section {
  std::string title;
  std::vector<Description> entries;
};

std::vector<Section> sections() {
  std::vector<Description> versions;
  for (const auto& [name, value] : all_versions()) {
    versions.push_back({name, value});
  }
  std::vector<Description> devices = {{"cpu", "ranks on the CPU"}};
  const auto gpus = visible_gpus();
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    devices.push_back({"cuda:" + std::to_string(i), gpus[i].description});
  }
  return {{"versions", versions},
          {"devices", devices},
          {"architectures", architectures().descriptions()},
          {"policies", policies().descriptions()},
          {"stage presets", stage_presets()},
          {"splits", split_kinds()},
          {"exchanges", describe_exchanges()}};
}

}  // namespace

int info_command(OutputFormat format) {
  if (format == OutputFormat::json) {
    auto document = nlohmann::ordered_json::object();
    for (const auto& section : sections()) {
      for (const auto& entry : section.entries) {
        document[section.title][entry.name] = entry.summary;
      }
    }
    std::cout << document.dump(2) << "\n";
    return kExitDone;
  }
  for (const auto& section : sections()) {
    std::cout << section.title << "\n";
    for (const auto& entry : section.entries) {
      std::cout << "  " << entry.name
                << std::string(std::max<std::size_t>(18, entry.name.size() + 1) - entry.name.size(),
                               ' ')
                << entry.summary << "\n";
    }
  }
  return kExitDone;
}

}  // namespace dovetail
