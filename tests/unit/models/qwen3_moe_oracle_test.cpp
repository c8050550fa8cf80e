// The model against the oracle in double precision, on random small configurations.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "models/decoder/architecture.hpp"
#include "tests/unit/models/memory_source.hpp"
#include "tests/unit/models/oracle.hpp"
#include "tests/unit/models/serial_step.hpp"

namespace dovetail {
namespace {

class RandomCase {
 public:
  explicit RandomCase(std::uint64_t seed) : random_(seed), source_(seed) {
    config_.vocab_size = draw(3, 40);
    config_.hidden_size = draw(5, 40);
    config_.num_hidden_layers = draw(1, 3);
    config_.num_key_value_heads = draw(1, 3);
    config_.num_attention_heads = config_.num_key_value_heads * draw(1, 3);
    config_.head_dim = 2 * draw(1, 8);
    config_.num_experts = draw(1, 9);
    config_.router.top_k = draw(1, config_.num_experts);
    config_.moe_intermediate_size = draw(1, 20);
    config_.intermediate_size = draw(1, 20);
    config_.shared_intermediate_size = draw(0, 2) * config_.moe_intermediate_size;
    config_.has_shared_expert_gate = config_.shared_intermediate_size > 0 && draw(0, 1) == 1;
    config_.router.normalize = draw(0, 1) == 1;
    config_.qkv_bias = draw(0, 1) == 1;
    config_.output_bias = draw(0, 1) == 1;
    config_.has_qk_norm = draw(0, 1) == 1;
    config_.tie_word_embeddings = draw(0, 1) == 1;
    config_.rms_norm_eps = 1e-6;
    config_.rope.theta = static_cast<double>(draw(10, 1000));
    config_.rope.mrope.section = {0, 0, config_.head_dim / 2};
    for (std::int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      config_.is_moe_layer.push_back(draw(0, 3) > 0);
    }
    for (std::int64_t request = draw(1, 3); request > 0; --request) {
      requests_.emplace_back();
      for (std::int64_t length = draw(1, 12); length > 0; --length) {
        requests_.back().push_back(draw(0, config_.vocab_size - 1));
      }
    }
    ranks_.push_back(MoeDecoderArchitecture(config_).make_model(source_, {}));
  }

  SerialResult run() const { return run_step(ranks_, whole_step(requests_)); }

  /// Compares everything, where routing agrees to the last logit; returns the errors of hidden and
  /// logits.
  std::pair<double, double> compare(const SerialResult& result) const {
    std::vector<at::Tensor> parts[2];
    double error[2] = {0, 0};
    std::int64_t row = 0;
    std::vector<LogitsError> router(config_.is_moe_layer.size());
    for (const auto& request : requests_) {
      const OracleResult oracle = oracle_forward(config_, source_, request);
      const auto length = std::ssize(request);
      compare_routing(oracle, result, row, length, router);
      const at::Tensor hidden = as_tensor(oracle.hidden);
      const at::Tensor logits = as_tensor(oracle.logits);
      error[0] = std::max(error[0], relative_error(result.hidden.narrow(0, row, length), hidden));
      error[1] = std::max(error[1], relative_error(result.logits.narrow(0, row, length), logits));
      row += length;
    }
    EXPECT_EQ(row, result.hidden.size(0));
    for (const auto& layer : router) {
      EXPECT_LE(layer.difference, 1e-5 * layer.largest);
    }
    return {error[0], error[1]};
  }

  const MoeDecoderConfig& config() const { return config_; }

  MemorySource& source() { return source_; }

 private:
  /// Of all requests of a layer: the few logits of one token may all be near zero by chance.
  struct LogitsError {
    double difference = 0;
    double largest = 0;
  };

  std::int64_t draw(std::int64_t from, std::int64_t to) {
    return std::uniform_int_distribution<std::int64_t>(from, to)(random_);
  }

  static at::Tensor as_tensor(const Rows& rows) {
    at::Tensor tensor = at::empty({std::ssize(rows), std::ssize(rows.front())},
                                  at::TensorOptions().dtype(at::kDouble));
    double* values = tensor.mutable_data_ptr<double>();
    for (const Row& row : rows) {
      values = std::copy(row.begin(), row.end(), values);
    }
    return tensor;
  }

  void compare_routing(const OracleResult& oracle,
                       const SerialResult& result,
                       std::int64_t first_row,
                       std::int64_t length,
                       std::vector<LogitsError>& router) const {
    for (std::size_t layer = 0; layer < config_.is_moe_layer.size(); ++layer) {
      if (!config_.is_moe_layer[layer]) {
        continue;
      }
      const auto ids = result.expert_ids[layer].accessor<std::int64_t, 2>();
      for (std::int64_t t = 0; t < length; ++t) {
        const auto& expected = oracle.expert_ids[layer][static_cast<std::size_t>(t)];
        for (std::int64_t choice = 0; choice < ids.size(1); ++choice) {
          EXPECT_EQ(ids[first_row + t][choice], expected[static_cast<std::size_t>(choice)]);
        }
      }
      const at::Tensor wanted = as_tensor(oracle.router_logits[layer]);
      const at::Tensor got = result.router_logits[layer].narrow(0, first_row, length);
      auto& error = router[layer];
      const auto difference = (got.to(at::kDouble) - wanted).abs().max().item<double>();
      EXPECT_FALSE(std::isnan(difference));
      error.difference = std::max(error.difference, difference);
      error.largest = std::max(error.largest, wanted.abs().max().item<double>());
    }
  }

  std::mt19937_64 random_;
  MemorySource source_;
  MoeDecoderConfig config_;
  std::vector<std::vector<std::int64_t>> requests_;
  std::vector<std::unique_ptr<Model>> ranks_;
};

TEST(Qwen3MoeOracle, AgreesOnRandomConfigurations) {
  const std::uint64_t first_seed = std::random_device{}();
  double worst = 0;
  int with_shared = 0;
  for (std::uint64_t seed = first_seed; seed < first_seed + 60; ++seed) {
    const RandomCase random_case(seed);
    const auto [hidden, logits] = random_case.compare(random_case.run());
    EXPECT_LT(hidden, 1e-5) << "seed " << seed;
    EXPECT_LT(logits, 1e-5) << "seed " << seed;
    worst = std::max({worst, hidden, logits});
    with_shared += random_case.config().shared_intermediate_size > 0 ? 1 : 0;
  }
  std::printf("first seed %lu, worst error %.2e, %d of 60 with shared experts\n",
              static_cast<unsigned long>(first_seed),
              worst,
              with_shared);
}

// Whatever a parameter is for: one that is off by a little must be seen.
TEST(Qwen3MoeOracle, EveryParameterMatters) {
  std::set<std::string> kinds;
  int unseen = 0;
  int changed = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    RandomCase random_case(seed);
    const SerialResult result = random_case.run();
    std::mt19937_64 random(seed);
    std::vector<std::string> names = random_case.source().names_read();
    std::shuffle(names.begin(), names.end(), random);
    names.resize(std::min<std::size_t>(names.size(), 8));
    for (const std::string& name : names) {
      at::Tensor& values = random_case.source().at(name);
      const at::Tensor before = values.clone();
      values.add_(0.05);
      testing::TestPartResultArray ignored;
      double error = 0;
      {
        testing::ScopedFakeTestPartResultReporter quiet(
            testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &ignored);
        error = random_case.compare(result).second;
      }
      ++changed;
      if (error < 1e-5 && ignored.size() == 0) {
        ++unseen;  // an expert that no token chose, an embedding's other rows, ...
      } else {
        kinds.insert(name.substr(name.find_last_of('.', name.find_last_of('.') - 1) + 1));
      }
    }
  }
  std::printf(
      "%d of %d changes unseen, %zu kinds of parameter seen\n", unseen, changed, kinds.size());
  EXPECT_LT(unseen * 3, changed);
  EXPECT_GE(kinds.size(), 10U);
}

}  // namespace
}  // namespace dovetail
