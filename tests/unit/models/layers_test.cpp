// Layers against plain loops in double precision.
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "models/layers/experts.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "models/layers/router.hpp"

namespace dovetail {
namespace {

constexpr int kExperts = 4;
constexpr int kHidden = 3;

TEST(RmsNorm, OfKnownRows) {
  const at::Tensor x = at::tensor({3.0F, 4.0F, 0.0F, 0.0F}).view({2, 2});
  const at::Tensor y = rms_norm(x, at::tensor({1.0F, 2.0F}), 1e-6);
  const double root = std::sqrt(12.5);
  EXPECT_NEAR(y[0][0].item<double>(), 3 / root, 1e-6);
  EXPECT_NEAR(y[0][1].item<double>(), 8 / root, 1e-6);
  EXPECT_EQ(y[1][0].item<double>(), 0);
  EXPECT_EQ(rms_norm(x.to(at::kHalf), at::tensor({1.0F, 2.0F}).to(at::kHalf), 1e-6).scalar_type(),
            at::kHalf);
}

TEST(Rotary, TurnsPairsByPositionAndFrequency) {
  const Rotary rotary(6, {.theta = 100.0, .mrope = {.section = {1, 1, 1}}}, at::kCPU);
  const at::Tensor x = at::arange(1.0, 25.0, at::kFloat).view({2, 2, 6});
  const at::Tensor positions = at::tensor({5, 700}, at::kLong);
  const at::Tensor y = rotate(x, rotary.table(positions, at::kFloat));
  for (int t = 0; t < 2; ++t) {
    for (int i = 0; i < 3; ++i) {
      const double angle = (t == 0 ? 5 : 700) * std::pow(100.0, -2.0 * i / 6);
      for (int head = 0; head < 2; ++head) {
        const double a = x[t][head][i].item<double>();
        const double b = x[t][head][i + 3].item<double>();
        EXPECT_NEAR(y[t][head][i].item<double>(), a * std::cos(angle) - b * std::sin(angle), 2e-3);
        EXPECT_NEAR(
            y[t][head][i + 3].item<double>(), a * std::sin(angle) + b * std::cos(angle), 2e-3);
      }
    }
  }
}

/// The row of positions that each frequency of a layout takes its angle from, as the table shows.
std::vector<int> rows_of(std::int64_t head_dim, const MropeSections& mrope) {
  const Rotary rotary(head_dim, {.theta = 100.0, .mrope = mrope}, at::kCPU);
  const at::Tensor positions = at::tensor({1, 2, 30, 40, 500, 600}, at::kLong).view({3, 2});
  const at::Tensor mixed = rotary.table(positions, at::kFloat);
  std::vector<int> rows;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    for (int row = 0; row < 3; ++row) {
      const at::Tensor alone = rotary.table(positions[row], at::kFloat);
      if (at::equal(mixed.select(2, i), alone.select(2, i))) {
        rows.push_back(row);
      }
    }
  }
  return rows;
}

TEST(Rotary, TakesEachFrequencyFromItsRowOfPositions) {
  EXPECT_EQ(rows_of(12, {.section = {1, 2, 3}}), (std::vector<int>{0, 1, 1, 2, 2, 2}));
  EXPECT_EQ(rows_of(12, {.section = {6, 0, 0}}), (std::vector<int>(6, 0)));
  EXPECT_EQ(rows_of(12, {.section = {2, 2, 2}, .interleaved = true}),
            (std::vector<int>{0, 1, 2, 0, 1, 2}));
  // Qwen3-VL's proportions: what height and width leave is temporal.
  EXPECT_EQ(rows_of(16, {.section = {4, 2, 2}, .interleaved = true}),
            (std::vector<int>{0, 1, 2, 0, 1, 2, 0, 0}));
  EXPECT_EQ(rows_of(16, {.section = {4, 3, 1}, .interleaved = true}),
            (std::vector<int>{0, 1, 2, 0, 1, 0, 0, 1}));
}

TEST(Rotary, EqualRowsAreTextPositions) {
  const at::Tensor text = at::tensor({7, 9}, at::kLong);
  for (const bool interleaved : {false, true}) {
    const Rotary rotary(
        12,
        {.theta = 100.0, .mrope = {.section = {3, 2, 1}, .interleaved = interleaved}},
        at::kCPU);
    EXPECT_TRUE(at::equal(rotary.table(at::stack({text, text, text}), at::kFloat),
                          rotary.table(text, at::kFloat)));
    EXPECT_THROW(rotary.table(at::zeros({2, 4}, at::kLong), at::kFloat), ContractError);
  }
}

TEST(Rotary, LayoutsThatDoNotFitAreRefused) {
  const auto make = [](const MropeSections& mrope) {
    Rotary(12, {.theta = 100.0, .mrope = mrope}, at::kCPU);
  };
  EXPECT_THROW(make({.section = {1, 2, 2}}), ContractError);
  EXPECT_THROW(make({.section = {1, 2, 4}}), ContractError);
  EXPECT_THROW(make({.section = {1, 2, 3}, .interleaved = true}), ContractError);
  EXPECT_THROW(make({.section = {1, 3, 2}, .interleaved = true}), ContractError);
}

TEST(Router, TakesLowerIdsOnTies) {
  const at::Tensor logits =
      at::tensor({1.0F, 3.0F, 2.0F, 3.0F, 0.0F, 0.0F, 0.0F, 0.0F}).view({2, 4});
  const Routing routing = route_top_k(logits, {}, {.top_k = 2, .normalize = true});
  EXPECT_TRUE(at::equal(routing.expert_ids, at::tensor({1, 3, 0, 1}, at::kLong).view({2, 2})));
  EXPECT_TRUE(at::equal(routing.natural_ids, routing.expert_ids));
  EXPECT_NEAR(routing.weights[0][0].item<double>(), 0.5, 1e-6);
  // Many equal logits, in any width, in reduced precision: ids in order.
  const at::Tensor flat = at::zeros({33, 128}, at::kBFloat16);
  EXPECT_TRUE(at::equal(route_top_k(flat, {}, {.top_k = 8, .normalize = false}).expert_ids,
                        at::arange(8, at::kLong).unsqueeze(0).expand({33, 8})));
}

TEST(Router, WeightsAreProbabilitiesWithAndWithoutNormalisation) {
  const at::Tensor logits = at::tensor({0.5F, -1.0F, 2.0F}).view({1, 3});
  const double total = std::exp(0.5) + std::exp(-1.0) + std::exp(2.0);
  const Routing plain = route_top_k(logits, {}, {.top_k = 2, .normalize = false});
  EXPECT_NEAR(plain.weights[0][0].item<double>(), std::exp(2.0) / total, 1e-6);
  EXPECT_NEAR(plain.weights[0][1].item<double>(), std::exp(0.5) / total, 1e-6);
  const Routing normalised = route_top_k(logits, {}, {.top_k = 2, .normalize = true});
  EXPECT_NEAR(normalised.weights[0][1].item<double>(),
              std::exp(0.5) / (std::exp(0.5) + std::exp(2.0)),
              1e-6);
}

TEST(Router, ReplayedExpertsGetTheirOwnWeights) {
  const at::Tensor logits = at::tensor({0.5F, -1.0F, 2.0F, 0.0F, 0.0F, 0.0F}).view({2, 3});
  const at::Tensor ids = at::tensor({1, 0, -1, -1}, at::kLong).view({2, 2});
  const Routing routing = route_replayed(logits, {}, ids, {.normalize = true});
  EXPECT_TRUE(at::equal(routing.expert_ids, ids));
  const double total = std::exp(-1.0) + std::exp(0.5);
  EXPECT_NEAR(routing.weights[0][0].item<double>(), std::exp(-1.0) / total, 1e-6);
  EXPECT_NEAR(routing.weights[0][1].item<double>(), std::exp(0.5) / total, 1e-6);
  EXPECT_TRUE(at::equal(routing.natural_ids, at::tensor({2, 0, 0, 1}, at::kLong).view({2, 2})));
  EXPECT_EQ(route_top_k(at::zeros({0, 3}), {}, {.top_k = 2, .normalize = true}).expert_ids.size(0),
            0);
}

TEST(Experts, EachRowGoesThroughItsExpert) {
  // Expert e: gate large (silu(x) = x), up = 1, down = (e + 1) * identity.
  ExpertWeights weights{.gate_up = at::zeros({kExperts, 2 * kHidden, kHidden}),
                        .down = at::zeros({kExperts, kHidden, kHidden})};
  for (int expert = 0; expert < kExperts; ++expert) {
    for (int i = 0; i < kHidden; ++i) {
      weights.gate_up[expert][i][i].fill_(100);
      weights.gate_up[expert][kHidden + i][i].fill_(1);
      weights.down[expert][i][i].fill_(expert + 1);
    }
  }
  const at::Tensor x = at::arange(1.0, 16.0, at::kFloat).view({5, kHidden});
  const at::Tensor ends = at::tensor({2, 2, 3, 5}, at::kInt);
  const at::Tensor y = run_experts(weights, {.rows = x, .offsets = ends});
  const at::Tensor factor = at::tensor({1.0F, 1.0F, 3.0F, 4.0F, 4.0F}).unsqueeze(1);
  EXPECT_TRUE(at::equal(y, x * x * 100 * factor)) << y;

  const at::Tensor none = at::zeros({kExperts}, at::kInt);
  EXPECT_EQ(run_experts(weights, {.rows = x.narrow(0, 0, 0), .offsets = none}).size(0), 0);
  EXPECT_THROW(run_experts(weights, {.rows = x, .offsets = none}), ContractError);
}

}  // namespace
}  // namespace dovetail
