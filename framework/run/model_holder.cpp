#include "framework/run/model_holder.hpp"

#include "framework/run/run_setup.hpp"

namespace dovetail {

std::shared_ptr<const Architecture> ModelHolder::read_architecture(const RankContext& context) {
  const auto& experiment = context.experiment;
  const Key key{experiment.model,
                experiment.parallel,
                experiment.execution.dtype,
                experiment.execution.device};
  if (key_ != key) {
    model_.reset();
    architecture_ = dovetail::read_architecture(context, models_);
    key_ = key;
  }
  return architecture_;
}

std::shared_ptr<const Model> ModelHolder::load_model(const RankContext& context,
                                                     RankDevice& device) {
  if (!model_) {
    model_ = dovetail::load_model(context, models_, *architecture_, device);
  }
  return model_;
}

}  // namespace dovetail
