// Stage lists for tests of the policy `staged`.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/plan/policy.hpp"
#include "framework/plan/stages.hpp"

namespace dovetail::testing {

using Names = std::vector<std::string>;

inline std::vector<StagePhase> stage(const Names& names) {
  std::vector<StagePhase> phases;
  for (const auto& name : names) {
    phases.push_back({name, ""});
  }
  return phases;
}

inline const StageList kNoCut = {stage({"attention", "mlp"})};

/// The cuts of dual_batch as lists.
inline StagesConfig dual_batch_lists() {
  return {"",
          {stage({"attention", "route", "dispatch"}),
           stage({"experts", "combine", "shared_experts"}),
           {}},
          kNoCut,
          0};
}

inline Schedule staged(const std::vector<LayerShape>& layers,
                       int num_ubatches,
                       std::optional<StagesConfig> stages,
                       WorkPhase phase = WorkPhase::prefill,
                       int num_groups = 1) {
  return policies().at("staged").make_schedule(
      {{layers}, phase, num_ubatches, std::move(stages), num_groups});
}

}  // namespace dovetail::testing
