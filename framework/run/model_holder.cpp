#include "framework/run/model_holder.hpp"

#include "framework/run/set_up.hpp"

namespace dovetail {

ModelKey model_key(const Experiment& experiment, const DevicePlacement& placement) {
  return {experiment.model,
          experiment.parallel,
          experiment.execution.dtype,
          placement.kind,
          placement.ordinal};
}

std::shared_ptr<const Architecture> ModelHolder::read_architecture(
    const RunContext& context, const DevicePlacement& placement) {
  const auto key = model_key(context.experiment, placement);
  if (key_ != key) {
    model_.reset();
    architecture_ = dovetail::read_architecture(context, models_);
    key_ = key;
  }
  return architecture_;
}

std::shared_ptr<const Model> ModelHolder::load_model(const RunContext& context,
                                                     RankDevice& device) {
  if (!model_) {
    model_ = dovetail::load_model(context, models_, *architecture_, device);
  }
  return model_;
}

}  // namespace dovetail
