// Scaled rotary frequencies against those of transformers, on random settings in every spelling
// (tests/fixtures/make_fixtures.py).
#include "models/layers/rotary_frequencies.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "models/decoder/read_rope.hpp"
#include "models/layers/rotary.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

/// What turns, and how.
struct Setting {
  std::int64_t rotary_dim = 0;
  RopeParameters rope;
};

Setting read(const Json& config, std::int64_t head_dim) {
  const ScratchFolder folder;
  const std::string path = folder.path() / "config.json";
  std::ofstream(path) << config.dump();
  const HfConfig file = HfConfig::read(path);
  if (config.dump().find("partial_rotary_factor") == std::string::npos) {
    return {head_dim, read_rope(file, head_dim)};
  }
  const std::int64_t rotary_dim = read_rotary_dim(file, head_dim, 1);
  return {rotary_dim, read_rope(file, rotary_dim, PartialRotary::read)};
}

/// Largest relative difference of an element.
double difference(const at::Tensor& values, const Json& wanted) {
  EXPECT_EQ(values.numel(), std::ssize(wanted));
  double largest = 0;
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const auto there = wanted.at(static_cast<std::size_t>(i)).get<double>();
    const double here = values.const_data_ptr<float>()[i];
    largest = std::max(largest, std::abs(here - there) / there);
  }
  return largest;
}

TEST(RotaryFrequencies, AreThoseOfTransformers) {
  const Json settings =
      Json::parse(std::ifstream(DOVETAIL_SOURCE_DIR "/tests/fixtures/rotary_frequencies.json"));
  ASSERT_GE(settings.size(), 100U);
  std::map<RopeType, int> seen;
  std::map<RopeType, int> seen_of_a_part;
  double worst = 0;
  int scaled = 0;
  for (const Json& setting : settings) {
    const auto head_dim = setting.at("head_dim").get<std::int64_t>();
    const auto [rotary_dim, rope] = read(setting.at("config"), head_dim);
    const RotaryFrequencies frequencies = rotary_frequencies(rope, rotary_dim);
    const double error = difference(frequencies.values, setting.at("frequencies"));
    EXPECT_LT(error, 2e-7) << setting.dump();
    EXPECT_DOUBLE_EQ(frequencies.attention_factor, setting.at("attention_factor").get<double>())
        << setting.dump();
    worst = std::max(worst, error);
    const RotaryFrequencies plain = rotary_frequencies({.theta = rope.theta}, rotary_dim);
    scaled += difference(plain.values, setting.at("frequencies")) > 1e-3 ? 1 : 0;
    ++(rotary_dim == head_dim ? seen : seen_of_a_part)[rope.type];
  }
  std::printf("%zu settings, worst relative error %.2e\n", settings.size(), worst);
  for (const RopeType type :
       {RopeType::linear, RopeType::dynamic, RopeType::yarn, RopeType::llama3}) {
    EXPECT_GE(seen[type], 5);
    EXPECT_GE(seen_of_a_part[type], 3);
  }
  EXPECT_GT(scaled, 40) << "the comparison sees no scaling";
}

TEST(RotaryFrequencies, TheAttentionFactorIsInEveryTable) {
  const at::Tensor positions = at::arange(40);
  const RopeParameters plain = {.theta = 100, .mrope = {.section = {2, 2, 2}}};
  RopeParameters scaled = plain;
  scaled.type = RopeType::yarn;
  scaled.original_max_position_embeddings = 64;  // and factor 1: frequencies as they are
  scaled.attention_factor = 1.5;
  for (const auto numerics : {Numerics::fast, Numerics::batch_invariant}) {
    const at::Tensor wanted = Rotary(12, plain, at::kCPU).table(positions, at::kFloat, numerics);
    const at::Tensor got = Rotary(12, scaled, at::kCPU).table(positions, at::kFloat, numerics);
    EXPECT_LT((got - 1.5 * wanted).abs().max().item<double>(), 1e-5);
  }
}

}  // namespace
}  // namespace dovetail
