// `dovetail info`: what this build is and what there is to choose from; with --keys, what an
// experiment file may state.
#include <iostream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/key_documents.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/session.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/stages.hpp"
#include "framework/record/run_info.hpp"
#include "framework/run/fabric.hpp"
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
          {"exchanges", describe_exchanges()},
          {"fabrics", describe_fabrics()}};
}

/// The keys of an experiment file.
std::string keys_text(OutputFormat format) {
  switch (format) {
    case OutputFormat::json:
      return write_keys_as_json();
    case OutputFormat::markdown:
      return write_keys_as_markdown();
    default:
      return write_keys_as_text();
  }
}

}  // namespace

int info_command(const InfoOptions& options) {
  if (options.keys) {
    std::cout << keys_text(options.format);
    return kExitDone;
  }
  if (options.format == OutputFormat::markdown) {
    throw InputError("--format markdown is for info --keys; allowed: table, json");
  }
  if (options.format == OutputFormat::json) {
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
