#include "tests/unit/run/fake_architecture.hpp"

#include <stdexcept>
#include <utility>

#include "framework/config/load.hpp"

namespace dovetail::testing {
namespace {

[[noreturn]] void refuse() {
  throw std::logic_error("a fake model has no phases");
}

class FakeModel final : public Model {
 public:
  const ModelShape& shape() const override { return architecture_.shape(); }

  const ModelDims& dims() const override { return architecture_.dims(); }

  WeightsDigest weights_digest() const override { return {}; }

  std::int64_t weight_bytes() const override { return 1000; }

  std::unique_ptr<Model> with_numerics(Numerics /*numerics*/) const override {
    return make_fake_model();
  }

  void embed(UbatchState&) const override { refuse(); }

  void attention(int, UbatchState&, KvCache&) const override { refuse(); }

  void route(int, UbatchState&, const at::Tensor&) const override { refuse(); }

  at::Tensor experts(int, const ExpertRows&) const override { refuse(); }

  void shared_experts(int, UbatchState&) const override { refuse(); }

  void mlp(int, UbatchState&) const override { refuse(); }

  void add_moe(int, UbatchState&, const at::Tensor&) const override { refuse(); }

  at::Tensor output(const UbatchState&) const override { refuse(); }

  at::Tensor logits(const at::Tensor&) const override { refuse(); }

 private:
  FakeArchitecture architecture_;
};

}  // namespace

FakeArchitecture::FakeArchitecture(Make make)
    : make_(std::move(make)), shape_{{{true, false}, {true, false}}} {
  dims_.hidden = 16;
  dims_.vocabulary = 100;
  dims_.kv_heads = 1;
  dims_.head_dim = 8;
  dims_.num_experts = 8;
  dims_.top_k = 2;
  dims_.token_flops = {.attention = 40, .route = 10, .experts = 50};
  dims_.flops_per_key = 1;
  dims_.flops_per_decode_key = 1;
}

std::unique_ptr<Model> FakeArchitecture::make_model(WeightSource& weights,
                                                    const ModelPlacement& placement) const {
  return make_ ? make_(weights, placement) : make_fake_model();
}

std::unique_ptr<Model> make_fake_model() {
  return std::make_unique<FakeModel>();
}

const Registry<ArchitectureFactory>& fake_architectures() {
  static const Registry<ArchitectureFactory> architectures = [] {
    Registry<ArchitectureFactory> registry("architecture");
    registry.add("fake", "for tests", [](const ModelConfig&) -> std::unique_ptr<Architecture> {
      return std::make_unique<FakeArchitecture>();
    });
    return registry;
  }();
  return architectures;
}

Experiment fake_experiment(const std::string& more) {
  return parse_experiment(
             "experiment: fake\nmodel: {architecture: fake, config: '" DOVETAIL_SOURCE_DIR
             "/models/configs/qwen3-moe-tiny.json'}\n" +
                 more,
             "fake.yaml")
      .experiment;
}

}  // namespace dovetail::testing
