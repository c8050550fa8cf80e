// The kernels behind norms, rotary tables, SwiGLU, routing and experts against the same functions
// on the CPU, in double precision or to the bit. Outputs are poisoned, tails too.
#include <cmath>
#include <limits>
#include <random>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/mlp.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "models/layers/router.hpp"
#include "models/layers/swiglu.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// The norm in double precision, without any rounding.
at::Tensor exact_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::Tensor wide = x.to(at::kDouble);
  return wide * ((wide * wide).mean(-1, true) + epsilon).rsqrt() * weight.to(at::kDouble);
}

TEST(LayersNorm, IsThatOfTheCpuWithinTwoRoundings) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const std::int64_t size : {8, 64, 128, 248, 256, 264, 2048, 2056, 4096, 7168, 16384}) {
    for (const std::int64_t rows : {0, 1, 7, 8, 33}) {
      SCOPED_TRACE(testing::Message() << "rows " << rows << ", size " << size);
      const at::Tensor x = random_bf16_values({rows, size}, random, 3);
      const at::Tensor weight = random_bf16_values({size}, random) + 1;
      ASSERT_TRUE(gpu::can_norm(to_gpu(x), to_gpu(weight)));
      const at::Tensor got = rms_norm(to_gpu(x), to_gpu(weight), 1e-6);
      check_gpu();
      // Two roundings to nearest, each by at most half a step.
      const at::Tensor rounded = weight.to(at::kBFloat16).to(at::kFloat);
      EXPECT_EQ(difference(got, exact_norm(x, rounded, 1e-6), 1.01 * kBf16Step, 1e-30), "");
      // The sum runs in another order than on the CPU, so a rounding may flip, rarely.
      const at::Tensor of_cpu =
          rms_norm(x.to(at::kBFloat16), weight.to(at::kBFloat16), 1e-6).to(at::kFloat);
      const auto flipped = (got.cpu().to(at::kFloat) != of_cpu).sum().item<std::int64_t>();
      EXPECT_LE(flipped, got.numel() / 50 + 2);
    }
  }
}

TEST(LayersNorm, HeadsAndZeroRows) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const at::Tensor x = random_bf16_values({5, 3, 128}, random);
  x.select(0, 2).zero_();
  const at::Tensor weight = random_bf16_values({128}, random);
  const at::Tensor got = rms_norm(to_gpu(x), to_gpu(weight), 1e-6);
  EXPECT_EQ(difference(got, exact_norm(x, weight, 1e-6), 1.01 * kBf16Step, 1e-30), "");
  EXPECT_NE(difference(got, exact_norm(x, weight + 0.1, 1e-6), 1.01 * kBf16Step, 1e-30), "");
}

TEST(LayersRotary, TableIsThatOfTheCpuWithinARounding) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const std::int64_t head_dim : {24, 128}) {
    const std::int64_t third = head_dim / 6;
    for (const bool interleaved : {false, true}) {
      const MropeSections layout = {.section = {head_dim / 2 - 2 * third, third, third},
                                    .interleaved = interleaved};
      const RopeParameters rope = {.type = RopeType::yarn,
                                   .theta = 1e6,
                                   .mrope = layout,
                                   .factor = 4,
                                   .original_max_position_embeddings = 4096};
      const Rotary on_cpu(head_dim, rope, at::kCPU);
      const Rotary on_gpu(head_dim, rope, at::Device(at::kCUDA));
      for (const std::int64_t tokens : {0, 1, 37}) {
        for (const bool two_dimensional : {false, true}) {
          SCOPED_TRACE(testing::Message() << "tokens " << tokens << ", head_dim " << head_dim
                                          << ", 2-D " << two_dimensional);
          const auto shape = two_dimensional ? std::vector<std::int64_t>{3, tokens + 5}
                                             : std::vector<std::int64_t>{tokens + 5};
          at::Tensor positions = (random_bf16_values(shape, random, 1).abs() * 10000).to(at::kLong);
          // As a ubatch has them: a slice of the batch's.
          positions = positions.narrow(-1, 2, tokens);
          const at::Tensor got =
              on_gpu.table(to_gpu(positions.narrow(-1, 0, tokens), at::kLong), at::kBFloat16);
          const at::Tensor all = to_gpu(at::zeros({3, tokens + 5}, at::kLong), at::kLong);
          check_gpu();
          ASSERT_EQ(got.scalar_type(), at::kBFloat16);
          const at::Tensor wanted = on_cpu.table(positions, at::kFloat);
          EXPECT_EQ(difference(got, wanted, kBf16Step, 1e-5), "");
          if (two_dimensional && tokens > 0) {
            at::Tensor wide = all.clone();
            wide.narrow(1, 3, tokens).copy_(positions);
            EXPECT_EQ(
                bitwise_difference(on_gpu.table(wide.narrow(1, 3, tokens), at::kBFloat16), got),
                "");
          }
        }
      }
    }
  }
}

TEST(LayersSwiglu, IsThatOfTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const std::int64_t size : {8, 24, 768}) {
    for (const std::int64_t rows : {0, 1, 5, 1000}) {
      SCOPED_TRACE(testing::Message() << "rows " << rows << ", size " << size);
      const at::Tensor gate_up = random_bf16_values({rows, 2 * size}, random, 4);
      const at::Tensor got = swiglu(to_gpu(gate_up));
      check_gpu();
      // expf may differ by a unit in the last place of a float: a rounding flips, rarely.
      EXPECT_EQ(difference(got, swiglu(gate_up.to(at::kBFloat16)), kBf16Step, 1e-30), "");
      EXPECT_EQ(difference(got, swiglu(gate_up.to(at::kDouble)), 1.01 * kBf16Step, 1e-30), "");
    }
  }
}

TEST(LayersSwiglu, StopsAtTheEndOnTheDevice) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const std::int64_t rows = 700;
  const std::int64_t size = 40;
  for (const int end : {0, 1, 256, 699, 700}) {
    SCOPED_TRACE(testing::Message() << "end " << end);
    const at::Tensor gate_up = to_gpu(random_bf16_values({rows, 2 * size}, random));
    at::Tensor result = at::full({rows, size}, kNan, gate_up.options());
    const at::Tensor on_device = to_gpu(at::tensor({end}, at::kInt), at::kInt);
    gpu::launch_swiglu(result.mutable_data_ptr(),
                       gate_up.const_data_ptr(),
                       on_device.const_data_ptr<std::int32_t>(),
                       rows,
                       size,
                       /*most_blocks=*/2,  // several steps of the grid
                       nullptr);
    check_gpu();
    EXPECT_EQ(bitwise_difference(result.narrow(0, 0, end), swiglu(gate_up).narrow(0, 0, end)), "");
    EXPECT_TRUE(result.narrow(0, end, rows - end).isnan().all().item<bool>());
  }
}

TEST(LayersZeroRows, OnlyThoseBehindTheEnd) {
  DOVETAIL_REQUIRE_GPU();
  for (const int end : {0, 3, 499, 500}) {
    at::Tensor x =
        at::full({500, 264}, kNan, at::TensorOptions().dtype(at::kBFloat16).device(at::kCUDA));
    const at::Tensor on_device = to_gpu(at::tensor({end}, at::kInt), at::kInt);
    gpu::launch_zero_rows(
        x.mutable_data_ptr(), on_device.const_data_ptr<std::int32_t>(), 500, 264, nullptr);
    check_gpu();
    EXPECT_TRUE(x.narrow(0, 0, end).isnan().all().item<bool>()) << end;
    EXPECT_TRUE((x.narrow(0, end, 500 - end) == 0).all().item<bool>()) << end;
  }
}

/// Logits with many ties: few different values.
at::Tensor tied_logits(std::int64_t tokens, std::int64_t experts, std::mt19937_64& random) {
  at::Tensor logits = (random_bf16_values({tokens, experts}, random) * 2).round() / 2;
  return logits;  // holds -0 and 0
}

TEST(LayersRouter, ChoosesAsAStableSort) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const auto& [experts, k] : std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1},
                                                                                     {3, 3},
                                                                                     {8, 3},
                                                                                     {32, 32},
                                                                                     {33, 8},
                                                                                     {64, 6},
                                                                                     {128, 8},
                                                                                     {250, 8},
                                                                                     {512, 10},
                                                                                     {1024, 32}}) {
    for (const std::int64_t tokens : {0, 1, 3, 130}) {
      for (const bool ties : {false, true}) {
        for (const bool normalize : {false, true}) {
          SCOPED_TRACE(testing::Message() << "tokens " << tokens << ", experts " << experts
                                          << ", k " << k << ", ties " << ties);
          const at::Tensor logits = ties ? tied_logits(tokens, experts, random)
                                         : random_bf16_values({tokens, experts}, random, 3);
          at::Tensor slots = at::arange(tokens, at::kLong);
          if (tokens > 2) {
            slots[1] = -1;
          }
          ASSERT_TRUE(gpu::can_route(to_gpu(logits), {.top_k = k}));
          const Routing got = route_tokens(to_gpu(logits),
                                           {},
                                           {},
                                           to_gpu(slots, at::kLong),
                                           {.top_k = k, .normalize = normalize});
          check_gpu();
          const Routing wanted =
              route_tokens(logits, {}, {}, slots, {.top_k = k, .normalize = normalize});
          EXPECT_EQ(bitwise_difference(got.expert_ids, wanted.expert_ids), "");
          EXPECT_TRUE(got.natural_ids.is_same(got.expert_ids));
          // Sums of up to 1024 terms in another order, and expf.
          EXPECT_EQ(difference(got.weights, wanted.weights, 1e-5, 1e-12), "");
        }
      }
    }
  }
}

TEST(LayersRouter, ReplayedIdsGetTheLogitsWeights) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const at::Tensor logits = random_bf16_values({9, 40}, random);
  at::Tensor ids = at::empty({9, 4}, at::kLong);
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    ids.view({-1})[i] = static_cast<std::int64_t>(random() % 40);
  }
  ids.select(0, 8).fill_(-1);
  at::Tensor slots = at::arange(9, at::kLong);
  slots[8] = -1;
  const Routing got = route_tokens(to_gpu(logits),
                                   {},
                                   to_gpu(ids, at::kLong),
                                   to_gpu(slots, at::kLong),
                                   {.top_k = 4, .normalize = true});
  check_gpu();
  const Routing wanted = route_tokens(logits, {}, ids, slots, {.top_k = 4, .normalize = true});
  EXPECT_EQ(bitwise_difference(got.expert_ids, ids), "");
  EXPECT_EQ(bitwise_difference(got.natural_ids, wanted.natural_ids), "");
  EXPECT_EQ(difference(got.weights.narrow(0, 0, 8), wanted.weights.narrow(0, 0, 8), 1e-5, 0), "");
  EXPECT_TRUE(got.weights.isfinite().all().item<bool>());
  // Other ids have other weights.
  const Routing other =
      route_tokens(logits, {}, at::remainder(ids + 1, 40), slots, {.top_k = 4, .normalize = true});
  EXPECT_NE(difference(got.weights.narrow(0, 0, 8), other.weights.narrow(0, 0, 8), 1e-5, 0), "");
}

TEST(LayersRouter, GroupsBiasesAndScoresAreThoseOfTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const std::vector<std::pair<std::int64_t, RouterRule>> rules = {
      {160, {.top_k = 6, .groups = {.num_groups = 8, .num_chosen = 3}, .scale = 16}},
      {256,
       {.top_k = 8,
        .score = RouterScore::sigmoid,
        .groups = {.num_groups = 8, .num_chosen = 4, .score = GroupScore::sum_of_two},
        .normalize = true,
        .scale = 2.5}},
      {384, {.top_k = 8, .score = RouterScore::sigmoid, .normalize = true, .scale = 2.827}},
      {40,
       {.top_k = 4,
        .groups = {.num_groups = 20, .num_chosen = 2, .score = GroupScore::sum_of_two}}}};
  for (const auto& [experts, rule] : rules) {
    SCOPED_TRACE(testing::Message() << experts << " experts");
    const bool sigmoid = rule.score == RouterScore::sigmoid;
    const at::Tensor logits = tied_logits(130, experts, random);
    // Far coarser than the rounding of a sigmoid, so that no device's own decides.
    const at::Tensor bias =
        sigmoid ? (random_bf16_values({experts}, random) * 64).round() / 64 : at::Tensor();
    at::Tensor slots = at::arange(130, at::kLong);
    slots[7] = -1;
    const auto on_gpu = [](const at::Tensor& x, at::ScalarType dtype) {
      return x.defined() ? to_gpu(x, dtype) : x;
    };
    const Routing wanted = route_tokens(logits, bias, {}, slots, rule);
    const Routing got =
        route_tokens(to_gpu(logits), on_gpu(bias, at::kFloat), {}, to_gpu(slots, at::kLong), rule);
    check_gpu();
    EXPECT_EQ(bitwise_difference(got.expert_ids, wanted.expert_ids), "");
    EXPECT_EQ(difference(got.weights, wanted.weights, 1e-5, 1e-12), "");
    EXPECT_EQ(got.scores.defined(), sigmoid);
    if (sigmoid) {
      EXPECT_EQ(difference(got.scores, wanted.scores, 1e-5, 1e-6), "");
    }
    // Without the rule's groups and biases other experts are chosen.
    const Routing plain = route_tokens(logits, {}, {}, slots, {.top_k = rule.top_k});
    EXPECT_NE(bitwise_difference(got.expert_ids, plain.expert_ids), "");
    const at::Tensor given = at::clamp_min(wanted.expert_ids.roll(1, 0), 0);
    const Routing replayed = route_tokens(to_gpu(logits),
                                          on_gpu(bias, at::kFloat),
                                          to_gpu(given, at::kLong),
                                          to_gpu(slots, at::kLong),
                                          rule);
    check_gpu();
    EXPECT_EQ(bitwise_difference(replayed.natural_ids, wanted.expert_ids), "");
    EXPECT_EQ(
        difference(
            replayed.weights, route_tokens(logits, bias, given, slots, rule).weights, 1e-5, 1e-12),
        "");
  }
}

TEST(LayersRouter, NanLogitsGiveValidIds) {
  DOVETAIL_REQUIRE_GPU();
  const at::Tensor logits = at::full({2, 128}, kNan, at::kFloat);
  logits.select(0, 1).narrow(0, 3, 100).zero_();
  const Routing got = route_tokens(to_gpu(logits),
                                   {},
                                   {},
                                   to_gpu(at::arange(2, at::kLong), at::kLong),
                                   {.top_k = 8, .normalize = true});
  check_gpu();
  EXPECT_EQ(bitwise_difference(got.expert_ids.select(0, 0), at::arange(8, at::kLong)), "");
  const at::Tensor second = at::tensor({0, 1, 2, 103, 104, 105, 106, 107}, at::kLong);
  EXPECT_EQ(bitwise_difference(got.expert_ids.select(0, 1), second), "");
}

struct ExpertCase {
  std::vector<std::int64_t> counts;
  std::int64_t hidden = 64;
  std::int64_t inner = 32;
  std::int64_t dead_rows = 0;
};

/// Runs the experts on the GPU, dead rows NaN, and compares with one pair of GEMMs an expert.
void check_experts(const ExpertCase& sizes, std::mt19937_64& random) {
  const auto experts = static_cast<std::int64_t>(sizes.counts.size());
  std::vector<int> ends;
  for (const std::int64_t count : sizes.counts) {
    ends.push_back((ends.empty() ? 0 : ends.back()) + static_cast<int>(count));
  }
  const ExpertWeights weights = {
      .gate_up = random_bf16_values({experts, 2 * sizes.inner, sizes.hidden}, random, 0.1),
      .down = random_bf16_values({experts, sizes.hidden, sizes.inner}, random, 0.1)};
  at::Tensor rows = random_bf16_values({ends.back() + sizes.dead_rows, sizes.hidden}, random);
  rows.narrow(0, ends.back(), sizes.dead_rows).fill_(kNan);
  const at::Tensor offsets = at::tensor(ends, at::kInt);
  const at::Tensor got =
      run_experts({.gate_up = to_gpu(weights.gate_up), .down = to_gpu(weights.down)},
                  {.rows = to_gpu(rows), .offsets = to_gpu(offsets, at::kInt)});
  check_gpu();
  ASSERT_EQ(got.size(0), rows.size(0));
  const at::Tensor wanted = run_experts(
      weights, {.rows = rows.narrow(0, 0, ends.back()).contiguous(), .offsets = offsets});
  if (ends.back() > 0) {
    // Rounded after the first GEMM, silu, product and the second GEMM: against the largest.
    const double largest = wanted.abs().max().item<double>();
    EXPECT_EQ(difference(got.narrow(0, 0, ends.back()), wanted, kBf16Step, 2 * kBf16Step * largest),
              "");
    EXPECT_GT(
        (got.narrow(0, 0, ends.back()).cpu().to(at::kFloat) - wanted).abs().max().item<float>(), 0);
  }
  if (ends.back() > 1) {
    const at::Tensor rolled = wanted.roll(1, 0);
    const double largest = wanted.abs().max().item<double>();
    EXPECT_NE(difference(got.narrow(0, 0, ends.back()), rolled, kBf16Step, 2 * kBf16Step * largest),
              "");
  }
}

TEST(LayersExperts, AreThoseOfTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  check_experts({.counts = {3, 0, 1, 0, 17}}, random);
  check_experts({.counts = {0, 0, 5, 0}, .dead_rows = 60}, random);
  check_experts({.counts = {0, 0}, .dead_rows = 16}, random);
  check_experts({.counts = {0, 0}}, random);
  check_experts({.counts = {130, 1, 0, 257, 64, 0}, .hidden = 512, .inner = 192, .dead_rows = 1000},
                random);
  check_experts({.counts = {9}, .hidden = 16, .inner = 8, .dead_rows = 7}, random);
  std::vector<std::int64_t> counts;
  for (int expert = 0; expert < 32; ++expert) {
    counts.push_back(static_cast<std::int64_t>(random() % 60));
  }
  check_experts({.counts = counts, .hidden = 2048, .inner = 768, .dead_rows = 3000}, random);
}

TEST(LayersMlp, IsThatOfTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const std::int64_t tokens : {0, 1, 19}) {
    const at::Tensor x = random_bf16_values({tokens, 64}, random);
    const MlpWeights weights = {.gate_up = random_bf16_values({80, 64}, random, 0.1),
                                .down = random_bf16_values({64, 40}, random, 0.1)};
    const at::Tensor got =
        gated_mlp({.gate_up = to_gpu(weights.gate_up), .down = to_gpu(weights.down)},
                  to_gpu(x),
                  Numerics::fast);
    check_gpu();
    const at::Tensor wanted = gated_mlp(weights, x, Numerics::fast);
    const double largest = tokens > 0 ? wanted.abs().max().item<double>() : 0;
    EXPECT_EQ(difference(got, wanted, kBf16Step, 2 * kBf16Step * largest), "");
  }
}

}  // namespace
}  // namespace dovetail::test
