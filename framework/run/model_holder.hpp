// The model of the run before, kept where the next point of a sweep needs the same one.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "framework/config/experiment.hpp"
#include "framework/step/model_catalog.hpp"
#include "framework/step/rank_context.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// One a process. All calls are collective over the world; every rank decides alike, because the
/// experiments are equal.
class ModelHolder {
 public:
  explicit ModelHolder(ModelCatalog models) : models_(std::move(models)) {}

  /// Throws AgreedError as read_architecture.
  std::shared_ptr<const Architecture> read_architecture(const RankContext& context);

  /// After read_architecture of the same experiment. Lets go of another model before it loads one.
  /// Throws AgreedError as load_model.
  std::shared_ptr<const Model> load_model(const RankContext& context, RankDevice& device);

 private:
  /// All that a model depends on.
  struct Key {
    ModelConfig model;
    ParallelConfig parallel;
    DType dtype = DType::float32;
    DeviceKind device = DeviceKind::automatic;

    friend bool operator==(const Key&, const Key&) = default;
  };

  ModelCatalog models_;
  std::shared_ptr<const Architecture> architecture_;
  std::shared_ptr<const Model> model_;
  std::optional<Key> key_;  ///< of both
};

}  // namespace dovetail
