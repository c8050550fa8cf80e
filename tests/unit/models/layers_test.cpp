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
#include "models/layers/attention.hpp"
#include "models/layers/experts.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "models/layers/router.hpp"

namespace dovetail {
namespace {

constexpr int kExperts = 4;
constexpr int kHidden = 3;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
  const Rotary rotary(6, 100.0, {1, 1, 1}, at::kCPU);
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

TEST(Rotary, TakesEachFrequencyFromItsRowOfPositions) {
  const Rotary rotary(12, 100.0, {1, 2, 3}, at::kCPU);
  const at::Tensor rows = at::tensor({1, 2, 30, 40, 500, 600}, at::kLong).view({3, 2});
  const at::Tensor mixed = rotary.table(rows, at::kFloat);
  const int row_of[] = {0, 1, 1, 2, 2, 2};
  for (int i = 0; i < 6; ++i) {
    const at::Tensor alone = rotary.table(rows[row_of[i]], at::kFloat);
    EXPECT_TRUE(at::equal(mixed.select(2, i), alone.select(2, i))) << i;
  }
  // Equal rows are text positions.
  const at::Tensor text = at::tensor({7, 9}, at::kLong);
  EXPECT_TRUE(at::equal(rotary.table(at::stack({text, text, text}), at::kFloat),
                        rotary.table(text, at::kFloat)));
  EXPECT_THROW(rotary.table(at::zeros({2, 4}, at::kLong), at::kFloat), ContractError);
}

TEST(Router, TakesLowerIdsOnTiesAndStatesTheMargin) {
  const at::Tensor logits =
      at::tensor({1.0F, 3.0F, 2.0F, 3.0F, 0.0F, 0.0F, 0.0F, 0.0F}).view({2, 4});
  const Routing routing = route_top_k(logits, 2, true);
  EXPECT_TRUE(at::equal(routing.expert_ids, at::tensor({1, 3, 0, 1}, at::kLong).view({2, 2})));
  EXPECT_TRUE(at::equal(routing.margin, at::tensor({1.0F, 0.0F})));
  EXPECT_NEAR(routing.weights[0][0].item<double>(), 0.5, 1e-6);
  // Many equal logits, in any width, in reduced precision: ids in order.
  const at::Tensor flat = at::zeros({33, 128}, at::kBFloat16);
  EXPECT_TRUE(at::equal(route_top_k(flat, 8, false).expert_ids,
                        at::arange(8, at::kLong).unsqueeze(0).expand({33, 8})));
}

TEST(Router, WeightsAreProbabilitiesWithAndWithoutNormalisation) {
  const at::Tensor logits = at::tensor({0.5F, -1.0F, 2.0F}).view({1, 3});
  const double total = std::exp(0.5) + std::exp(-1.0) + std::exp(2.0);
  const Routing plain = route_top_k(logits, 2, false);
  EXPECT_NEAR(plain.weights[0][0].item<double>(), std::exp(2.0) / total, 1e-6);
  EXPECT_NEAR(plain.weights[0][1].item<double>(), std::exp(0.5) / total, 1e-6);
  const Routing normalised = route_top_k(logits, 2, true);
  EXPECT_NEAR(normalised.weights[0][1].item<double>(),
              std::exp(0.5) / (std::exp(0.5) + std::exp(2.0)),
              1e-6);
  EXPECT_NEAR(plain.margin[0].item<double>(), 1.5, 1e-6);
  EXPECT_EQ(route_top_k(logits, 3, true).margin[0].item<float>(), kInfinity);
}

TEST(Router, ReplayedExpertsGetTheirOwnWeights) {
  const at::Tensor logits = at::tensor({0.5F, -1.0F, 2.0F, 0.0F, 0.0F, 0.0F}).view({2, 3});
  const at::Tensor ids = at::tensor({1, 0, -1, -1}, at::kLong).view({2, 2});
  const Routing routing = route_replayed(logits, ids, true);
  EXPECT_TRUE(at::equal(routing.expert_ids, ids));
  const double total = std::exp(-1.0) + std::exp(0.5);
  EXPECT_NEAR(routing.weights[0][0].item<double>(), std::exp(-1.0) / total, 1e-6);
  EXPECT_NEAR(routing.weights[0][1].item<double>(), std::exp(0.5) / total, 1e-6);
  EXPECT_EQ(routing.margin[0].item<float>(), kInfinity);
  EXPECT_EQ(route_top_k(at::zeros({0, 3}), 2, true).expert_ids.size(0), 0);
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

/// Element by element in double precision.
at::Tensor slow_attention(const at::Tensor& queries,
                          const AttentionSegment& segment,
                          const at::Tensor& keys,
                          const at::Tensor& values) {
  const auto query = queries.accessor<float, 3>();
  const auto key = keys.accessor<float, 3>();
  const auto value = values.accessor<float, 3>();
  const std::int64_t size = queries.size(2);
  const std::int64_t group = queries.size(1) / keys.size(1);
  at::Tensor result = at::zeros(queries.sizes(), at::kDouble);
  auto out = result.accessor<double, 3>();
  for (std::int64_t row = 0; row < segment.query_length; ++row) {
    const std::int64_t token = segment.token_start + row;
    for (std::int64_t head = 0; head < queries.size(1); ++head) {
      double total = 0;
      std::vector<double> sum(static_cast<std::size_t>(size), 0.0);
      for (std::int64_t t = 0; t <= segment.context_length + row; ++t) {
        const std::int64_t slot = segment.kv_start + t;
        double score = 0;
        for (std::int64_t i = 0; i < size; ++i) {
          score += double{query[token][head][i]} * double{key[slot][head / group][i]};
        }
        const double share = std::exp(score / std::sqrt(static_cast<double>(size)));
        total += share;
        for (std::int64_t i = 0; i < size; ++i) {
          sum[static_cast<std::size_t>(i)] += share * double{value[slot][head / group][i]};
        }
      }
      for (std::int64_t i = 0; i < size; ++i) {
        out[token][head][i] = sum[static_cast<std::size_t>(i)] / total;
      }
    }
  }
  return result;
}

class AttendToContext : public testing::TestWithParam<AttentionSegment> {};

TEST_P(AttendToContext, EqualsPlainLoopsAndTouchesNothingElse) {
  const AttentionSegment segment = GetParam();
  const std::int64_t length = segment.context_length + segment.query_length;
  const double poison = std::numeric_limits<double>::quiet_NaN();
  at::Tensor keys = at::full({segment.kv_start + length + 5, 2, 10}, poison, at::kFloat);
  at::Tensor values = keys.clone();
  keys.narrow(0, segment.kv_start, length).copy_(at::randn({length, 2, 10}));
  values.narrow(0, segment.kv_start, length).copy_(at::randn({length, 2, 10}));
  const at::Tensor queries = at::randn({segment.token_start + segment.query_length + 2, 6, 10});
  const at::Tensor fast = attend_to_context(queries, {segment}, keys, values).to(at::kDouble);
  const at::Tensor slow = slow_attention(queries, segment, keys, values);
  EXPECT_LT((fast - slow).abs().max().item<double>(), 2e-6);
  // Keys and values read one slot too early are seen.
  AttentionSegment shifted = segment;
  shifted.kv_start -= 1;
  keys[shifted.kv_start].zero_();
  values[shifted.kv_start].fill_(1000);
  const at::Tensor wrong = attend_to_context(queries, {shifted}, keys, values).to(at::kDouble);
  EXPECT_GT((wrong - slow).abs().max().item<double>(), 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Segments,
                         AttendToContext,
                         testing::Values(AttentionSegment{0, 1, 0, 1},
                                         AttentionSegment{3, 1, 300, 4},
                                         AttentionSegment{2, 7, 0, 2},
                                         AttentionSegment{0, 255, 1, 9},
                                         AttentionSegment{1, 256, 0, 1},
                                         AttentionSegment{0, 257, 255, 3},
                                         AttentionSegment{4, 600, 11, 1}),
                         [](const auto& test) {
                           return "query" + std::to_string(test.param.query_length) + "context" +
                                  std::to_string(test.param.context_length);
                         });

TEST(AttendToContext, SegmentsOfOneUbatchAreApart) {
  const at::Tensor keys = at::randn({20, 2, 4});
  const at::Tensor values = at::randn({20, 2, 4});
  const at::Tensor queries = at::randn({9, 4, 4});
  const AttentionSegment first{0, 4, 2, 10};
  const AttentionSegment second{5, 3, 0, 1};  // row 4 and row 8 are padding
  const at::Tensor both = attend_to_context(queries, {first, second}, keys, values);
  const at::Tensor apart = attend_to_context(queries, {first}, keys, values) +
                           attend_to_context(queries, {second}, keys, values);
  EXPECT_TRUE(at::equal(both, apart));
  EXPECT_EQ(both[4].abs().max().item<float>(), 0);
  EXPECT_EQ(both[8].abs().max().item<float>(), 0);
  EXPECT_THROW(attend_to_context(queries, {{7, 3, 0, 1}}, keys, values), ContractError);
}

}  // namespace
}  // namespace dovetail
