// A small architecture without weights, for tests of what a run does around a model.
#pragma once

#include <functional>
#include <string>

#include "framework/base/registry.hpp"
#include "framework/step/architecture.hpp"

namespace dovetail::testing {

/// Two MoE layers of eight experts.
class FakeArchitecture final : public Architecture {
 public:
  /// `make` is called by make_model; what it returns or throws, make_model does.
  using Make = std::function<std::unique_ptr<Model>(WeightSource&, const ModelPlacement&)>;

  explicit FakeArchitecture(Make make = {});

  const ModelShape& shape() const override { return shape_; }

  const ModelDims& dims() const override { return dims_; }

  std::vector<MemoryPart> weight_memory(const ModelPlacement& placement) const override {
    return {{"weights", 1000, Phase::attention},
            {"experts", 8'000'000 / placement.ep_size, Phase::experts}};
  }

  void check_weights(WeightSource& /*weights*/,
                     const ModelPlacement& /*placement*/) const override {}

  std::unique_ptr<Model> make_model(WeightSource& weights,
                                    const ModelPlacement& placement) const override;

 private:
  Make make_;
  ModelShape shape_;
  ModelDims dims_;
};

/// A model of that architecture whose phases must not be called.
std::unique_ptr<Model> make_fake_model();

/// With that architecture alone, as "fake".
const Registry<ArchitectureFactory>& fake_architectures();

/// An experiment of such a model; `more` are further lines of its file.
Experiment fake_experiment(const std::string& more);

}  // namespace dovetail::testing
