// Checkpoints whose names are not those of the model's parameters, as transformers takes them: tied
// matrices of which one, both, or two different ones are stored, and base models without a prefix.
#include <fstream>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "models/decoder/architecture.hpp"
#include "models/qwen3_moe.hpp"
#include "models/weights/checkpoint.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/checkpoint_copy.hpp"
#include "tests/unit/models/fixture.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using testing::input_error_of;
using testing::ScratchFolder;

const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kLmHead = "lm_head.weight";

/// A fixture's parameters, to be written again under other names.
class Copy {
 public:
  explicit Copy(const std::string& name) : fixture_(load_fixture(name)) {
    config_ = nlohmann::json::parse(std::ifstream(fixture_.folder + "/config.json"));
    CheckpointSource source(fixture_.folder);
    tensors_ = parameters_of(*architecture_of(fixture_), source);
  }

  Tensors& tensors() { return tensors_; }

  nlohmann::json& config() { return config_; }

  /// The fixture with these parameters in a folder of its own.
  Fixture written() {
    write_checkpoint(folder_.path(), config_, tensors_);
    Fixture fixture = fixture_;
    fixture.folder = folder_.path();
    return fixture;
  }

  at::Tensor logits_of_the_fixture() const { return logits_of(fixture_); }

  static at::Tensor logits_of(const Fixture& fixture, int ep_size = 1) {
    return run_step(make_models(fixture, ep_size, at::kFloat), whole_step(fixture.requests)).logits;
  }

 private:
  Fixture fixture_;
  nlohmann::json config_;
  Tensors tensors_;
  ScratchFolder folder_;
};

void check(const Fixture& fixture) {
  CheckpointSource source(fixture.folder);
  architecture_of(fixture)->check_weights(source, {});
  EXPECT_EQ(source.bytes_read(), 0);
}

std::int64_t weight_bytes(const Fixture& fixture) {
  return make_models(fixture, 1, at::kFloat).front()->weight_bytes();
}

/// The same before any weight is in memory.
std::int64_t planned_bytes(const Fixture& fixture) {
  CheckpointSource source(fixture.folder);
  const auto architecture = architecture_of(fixture);
  std::int64_t bytes = 0;
  for (const auto& parts :
       {architecture->weight_memory({}), architecture->untied_memory(source, {})}) {
    for (const MemoryPart& part : parts) {
      bytes += part.bytes;
    }
  }
  return bytes;
}

TEST(TiedWeights, AnLmHeadAloneIsTheEmbeddingToo) {
  Copy copy("tied-dense-sharded");
  ASSERT_FALSE(copy.tensors().contains(kLmHead));
  copy.tensors()[kLmHead] = copy.tensors().extract(kEmbedding).mapped();
  const Fixture fixture = copy.written();
  check(fixture);
  EXPECT_TRUE(at::equal(Copy::logits_of(fixture), copy.logits_of_the_fixture()));
  EXPECT_EQ(planned_bytes(fixture), weight_bytes(fixture));
}

TEST(TiedWeights, TwoEqualOnesAreOne) {
  Copy copy("mixtral-yarn-stacked");
  const std::int64_t bytes = weight_bytes(load_fixture("mixtral-yarn-stacked"));
  copy.tensors()[kLmHead] = copy.tensors().at(kEmbedding).clone();
  const Fixture fixture = copy.written();
  check(fixture);
  EXPECT_TRUE(at::equal(Copy::logits_of(fixture), copy.logits_of_the_fixture()));
  EXPECT_EQ(weight_bytes(fixture), bytes);
  EXPECT_EQ(planned_bytes(fixture), bytes);
}

/// More rows than are compared at once.
TEST(TiedWeights, ADifferenceInTheLastRowIsCounted) {
  constexpr std::int64_t rows = 2500;
  const auto bytes_with = [&](double last) {
    Copy copy("tied-dense-sharded");
    const std::int64_t hidden = copy.tensors().at(kEmbedding).size(1);
    copy.config()["vocab_size"] = rows;
    copy.tensors()[kEmbedding] = at::zeros({rows, hidden}, at::kFloat);
    copy.tensors()[kLmHead] = copy.tensors().at(kEmbedding).clone();
    copy.tensors()[kLmHead][rows - 1][hidden - 1] = last;
    const Fixture fixture = copy.written();
    EXPECT_EQ(planned_bytes(fixture), weight_bytes(fixture));
    return planned_bytes(fixture);
  };
  EXPECT_EQ(bytes_with(1), bytes_with(0) + rows * 32 * 4);
}

/// Logits of twice the matrix are twice the logits, to the bit.
TEST(TiedWeights, TwoDifferentOnesAreNotTied) {
  Copy copy("tied-dense-sharded");
  const std::int64_t bytes = weight_bytes(load_fixture("tied-dense-sharded"));
  copy.tensors()[kLmHead] = copy.tensors().at(kEmbedding) * 2;
  const Fixture fixture = copy.written();
  check(fixture);
  const at::Tensor tied = copy.logits_of_the_fixture();
  EXPECT_TRUE(at::equal(Copy::logits_of(fixture), tied * 2));
  EXPECT_EQ(weight_bytes(fixture),
            bytes + static_cast<std::int64_t>(copy.tensors().at(kLmHead).nbytes()));
  EXPECT_EQ(planned_bytes(fixture), weight_bytes(fixture));
}

TEST(TiedWeights, StagesTakeWhatIsStored) {
  Copy copy("tied-dense-sharded");
  copy.tensors()[kLmHead] = copy.tensors().at(kEmbedding) * 2;
  const Fixture both = copy.written();
  const auto read = [&](const std::string& folder, int first, int last) {
    MoeDecoderConfig config = read_qwen3_moe_config(folder + "/config.json");
    config.layers = LayerRange{.first = first, .last = last};
    CheckpointSource source(folder);
    return parameters_of(MoeDecoderArchitecture(config), source);
  };
  const Tensors last = read(both.folder, 3, 6);
  EXPECT_TRUE(last.contains(kLmHead) && !last.contains(kEmbedding));
  EXPECT_TRUE(at::equal(last.at(kLmHead), copy.tensors().at(kLmHead)));
  EXPECT_FALSE(read(both.folder, 0, 3).contains(kLmHead));
  const Tensors of_one = read(load_fixture("tied-dense-sharded").folder, 3, 6);
  EXPECT_TRUE(of_one.contains(kEmbedding) && !of_one.contains(kLmHead));

  Copy alone("tied-dense-sharded");
  alone.tensors()[kLmHead] = alone.tensors().extract(kEmbedding).mapped();
  const Fixture head = alone.written();
  EXPECT_TRUE(read(head.folder, 0, 3).contains(kLmHead)) << "as the embedding";
  EXPECT_TRUE(read(head.folder, 3, 6).contains(kLmHead));
}

TEST(TiedWeights, WhatIsWrongIsNamed) {
  Copy neither("tied-dense-sharded");
  neither.tensors().erase(kEmbedding);
  const Fixture fixture = neither.written();
  EXPECT_NE(input_error_of([&] { check(fixture); }).find("no tensor '" + kEmbedding + "'"),
            std::string::npos);
  Copy narrow("tied-dense-sharded");
  narrow.tensors()[kLmHead] = narrow.tensors().at(kEmbedding).narrow(0, 0, 5).clone();
  const Fixture other = narrow.written();
  EXPECT_NE(input_error_of([&] { check(other); }).find("'lm_head.weight' has shape [5, 32]"),
            std::string::npos);
}

/// Names as transformers writes those of a model without an lm_head.
Tensors without_prefix(const Tensors& tensors) {
  const std::string prefix = "model.";
  Tensors bare;
  for (const auto& [name, tensor] : tensors) {
    bare[name.starts_with(prefix) ? name.substr(prefix.size()) : name] = tensor;
  }
  return bare;
}

TEST(BaseModels, NamesWithoutAPrefixAreFound) {
  for (const char* const name :
       {"tied-dense-sharded", "mixtral-yarn-stacked", "mixtral-linear", "deepseek-v3-groups"}) {
    Copy copy(name);
    copy.tensors() = without_prefix(copy.tensors());
    ASSERT_TRUE(copy.tensors().contains("embed_tokens.weight"));
    const Fixture fixture = copy.written();
    check(fixture);
    for (const int ep_size : {1, 3}) {
      if (architecture_of(fixture)->dims().num_experts % ep_size == 0) {
        EXPECT_LT(relative_error(Copy::logits_of(fixture, ep_size), copy.logits_of_the_fixture()),
                  ep_size == 1 ? 1e-30 : 1e-5)
            << name;
      }
    }
  }
}

TEST(BaseModels, AnLmHeadThatNothingTiesIsMissed) {
  Copy copy("mixtral-linear");
  copy.tensors() = without_prefix(copy.tensors());
  copy.tensors().erase(kLmHead);
  const Fixture fixture = copy.written();
  EXPECT_NE(input_error_of([&] { check(fixture); }).find("no tensor 'lm_head.weight'"),
            std::string::npos);
}

/// The message names the folder, all spellings that were looked for, and the nearest to any of
/// them.
TEST(MissingExperts, AreLookedForUnderEveryName) {
  Copy copy("mixtral-linear");
  const std::string wanted = "model.layers.1.block_sparse_moe.experts.0.w1.weight";
  ASSERT_TRUE(copy.tensors().contains(wanted));
  for (const char* const matrix : {"w1", "w2", "w3"}) {
    copy.tensors().erase("model.layers.1.block_sparse_moe.experts.0." + std::string(matrix) +
                         ".weight");
  }
  const Fixture fixture = copy.written();
  const std::string message = input_error_of([&] { check(fixture); });
  for (const std::string& part :
       {fixture.folder + ": no tensor 'model.layers.1.mlp.experts.0.gate_proj.weight'",
        std::string("'model.layers.1.mlp.experts.gate_up_proj'"),
        "'" + wanted + "'",
        std::string("the nearest name is tensor "
                    "'model.layers.0.block_sparse_moe.experts.0.w1.weight'")}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << ": " << message;
  }
}

}  // namespace
}  // namespace dovetail
