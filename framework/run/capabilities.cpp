#include "framework/run/capabilities.hpp"

#include <utility>

#include "framework/base/registry.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/stages.hpp"

namespace dovetail {

namespace {

std::vector<ExchangeCapability> exchange_capabilities() {
  std::vector<ExchangeCapability> capabilities;
  for (const auto& row : exchange_table()) {
    capabilities.push_back({.name = row.name,
                            .on_cpu = row.on_host.has_value(),
                            .on_gpu = row.on_gpu.has_value(),
                            .max_graph = row.max_graph,
                            .built = row.is_built()});
  }
  return capabilities;
}

}  // namespace

Capabilities build_capabilities(std::vector<std::string> architectures) {
  Capabilities capabilities;
  capabilities.architectures = std::move(architectures);
  for (const auto& name : policies().names()) {
    const auto& policy = policies().at(name);
    capabilities.policies.push_back({.name = name,
                                     .min_ubatches = policy.min_ubatches,
                                     .max_ubatches = policy.max_ubatches,
                                     .default_ubatches = policy.default_ubatches,
                                     .max_groups = policy.max_groups});
  }
  for (const auto& split : split_kinds()) {
    capabilities.splits.push_back(split.name);
  }
  capabilities.exchanges = exchange_capabilities();
#ifdef DOVETAIL_WITH_CUDA
  capabilities.cuda = true;
#endif
  capabilities.find_stages_problem = [](const StagesConfig& stages,
                                        int num_groups) -> std::optional<ConfigProblem> {
    const auto problem = find_stages_problem(stages, num_groups);
    return problem ? std::optional<ConfigProblem>({problem->place, problem->message})
                   : std::nullopt;
  };
  for (int phase = 0; phase < kNumPhases; ++phase) {
    capabilities.phases.emplace_back(to_string(static_cast<Phase>(phase)));
  }
  return capabilities;
}

Capabilities planning_capabilities(std::vector<std::string> architectures) {
  auto capabilities = build_capabilities(std::move(architectures));
  capabilities.cuda = true;
  return capabilities;
}

}  // namespace dovetail
