// What a run takes from `models`. launch hands it in, so that a run knows no model.
#pragma once

#include <functional>
#include <memory>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "framework/step/weight_source.hpp"

namespace dovetail {

struct ModelCatalog {
  /// By the name that an experiment gives.
  const Registry<ArchitectureFactory>& architectures;
  /// The source that an experiment asks for. Local; opens files. Throws InputError.
  std::function<std::unique_ptr<WeightSource>(const WeightsConfig& weights)> open_weights;
};

}  // namespace dovetail
