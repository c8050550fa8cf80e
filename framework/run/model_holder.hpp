// The model of the run before, kept where the next point of a sweep needs the same one.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "framework/config/experiment.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/model_catalog.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// All that a model depends on: what the experiment asks for, and the device that was chosen for
/// it. `execution.device` is not among them: `auto` may be another device at the next point.
struct ModelKey {
  ModelConfig model;
  ParallelConfig parallel;
  DType dtype = DType::float32;
  DeviceKind device = DeviceKind::cpu;
  int ordinal = 0;  ///< of the GPU

  friend bool operator==(const ModelKey&, const ModelKey&) = default;
};

ModelKey model_key(const Experiment& experiment, const DevicePlacement& placement);

/// One a process. All calls are collective over the world; every rank decides alike, because the
/// experiments and the kind of device are equal.
class ModelHolder {
 public:
  explicit ModelHolder(ModelCatalog models) : models_(std::move(models)) {}

  /// Lets go of a model that does not suit. Throws AgreedError as read_architecture.
  std::shared_ptr<const Architecture> read_architecture(const RunContext& context,
                                                        const DevicePlacement& placement);

  /// After read_architecture of the same experiment and placement, of which `device` is. Throws as
  /// load_model.
  std::shared_ptr<const Model> load_model(const RunContext& context, RankDevice& device);

 private:
  ModelCatalog models_;
  std::shared_ptr<const Architecture> architecture_;
  std::shared_ptr<const Model> model_;
  std::optional<ModelKey> key_;  ///< of both
};

}  // namespace dovetail
