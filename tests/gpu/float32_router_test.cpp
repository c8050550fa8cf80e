// Routers that compute in float32 in a run of bfloat16: their product, and the kernel that chooses
// by its result, against float64 and the CPU.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include "models/layers/cuda/layers.hpp"
#include "models/layers/products.hpp"
#include "models/layers/router.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

constexpr auto kBfloat16 = at::kBFloat16;

/// Of sums around 1 of some thousand products; a rounding to bfloat16 is off by up to 4e-3.
constexpr double kFloat32Error = 1e-4;

at::Tensor rounded_to_bf16(const at::Tensor& x) {
  return x.to(kBfloat16).to(at::kFloat);
}

TEST(Float32Router, ProductsOfBfloat16AreThoseOfFloat64) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());

  struct Size {
    std::int64_t in;
    std::int64_t out;
  };

  // Of DeepSeek V2 and V3, Kimi and GLM-4.5, small ones, and rows of no whole number of 16 bytes.
  for (const Size& size :
       {Size{2048, 64}, {5120, 160}, {7168, 256}, {7168, 384}, {4096, 128}, {64, 8}, {100, 36}}) {
    for (const std::int64_t rows : {0, 1, 7, 64, 300}) {
      for (const Numerics numerics : {Numerics::fast, Numerics::batch_invariant}) {
        SCOPED_TRACE(testing::Message() << rows << " rows, " << size.in << " -> " << size.out
                                        << ", " << to_string(numerics));
        const at::Tensor x = random_bf16_values({rows, size.in}, random);
        const at::Tensor weight = random_bf16_values(
            {size.out, size.in}, random, 1 / std::sqrt(static_cast<double>(size.in)));
        const at::Tensor got = project_to_float32(to_gpu(x), to_gpu(weight), numerics);
        check_gpu();
        ASSERT_EQ(got.scalar_type(), at::kFloat);
        ASSERT_TRUE(got.is_contiguous());
        const at::Tensor wanted = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
        EXPECT_EQ(difference(got, wanted, kFloat32Error, kFloat32Error), "");
        if (rows >= 64) {
          EXPECT_NE(difference(rounded_to_bf16(got), got, 0, 0), "") << "logits are bfloat16";
          EXPECT_NE(difference(rounded_to_bf16(got), wanted, kFloat32Error, kFloat32Error), "");
        }
      }
    }
  }
}

/// Of each row distinct values in another order, 1 / 1024 apart around 1 and -1: steps of bfloat16
/// are eight times that and more, and sigmoids differ by far more than they are rounded.
at::Tensor near_logits(std::int64_t tokens, std::int64_t experts, std::mt19937_64& random) {
  at::Tensor logits = at::empty({tokens, experts}, at::kFloat);
  std::vector<int> order(static_cast<std::size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  auto* value = logits.mutable_data_ptr<float>();
  for (std::int64_t token = 0; token < tokens; ++token) {
    std::shuffle(order.begin(), order.end(), random);
    for (const int place : order) {
      const float step = static_cast<float>(place / 2) / 1024;
      *value++ = place % 2 == 0 ? 1 + step : -1 - step;
    }
  }
  return logits;
}

struct RouterCase {
  std::int64_t experts;
  RouterRule rule;
};

const std::vector<RouterCase>& router_cases() {
  static const std::vector<RouterCase> cases = {
      {8, {.top_k = 2}},
      {64, {.top_k = 6, .scale = 16}},
      {160, {.top_k = 6, .groups = {.num_groups = 8, .num_chosen = 3}, .scale = 16}},
      {256,
       {.top_k = 8,
        .score = RouterScore::sigmoid,
        .groups = {.num_groups = 8, .num_chosen = 4},  // sums of two would be ties in float32
        .normalize = true,
        .scale = 2.5}},
      {384, {.top_k = 8, .score = RouterScore::sigmoid, .normalize = true, .scale = 2.827}},
      {1000, {.top_k = 32, .normalize = true}}};
  return cases;
}

TEST(Float32Router, NearTiesAreChosenAsOnTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const auto& [experts, rule] : router_cases()) {
    for (const std::int64_t tokens : {0, 1, 131}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens, " << experts << " experts");
      const at::Tensor logits = near_logits(tokens, experts, random);
      const at::Tensor on_gpu = to_gpu(logits, at::kFloat);
      at::Tensor slots = at::arange(tokens, at::kLong);
      if (tokens > 2) {
        slots[1] = -1;
      }
      const auto route = [&](const at::Tensor& x, const at::Tensor& replayed) {
        const Routing routing = route_tokens(
            x, {}, replayed, to_gpu(slots, at::kLong), rule, Numerics::fast, kBfloat16);
        check_gpu();
        return routing;
      };
      ASSERT_TRUE(gpu::can_route(on_gpu, rule));
      const Routing wanted = route_tokens(logits, {}, {}, slots, rule);
      const Routing got = route(on_gpu, {});
      EXPECT_EQ(bitwise_difference(got.expert_ids, wanted.expert_ids), "");
      EXPECT_TRUE(got.natural_ids.is_same(got.expert_ids)) << "not computed by the kernel";
      EXPECT_EQ(difference(got.weights, wanted.weights, 1e-5, 1e-12), "");
      if (wanted.scores.defined()) {
        EXPECT_EQ(difference(got.scores, wanted.scores, 1e-5, 1e-6), "");
      }
      const at::Tensor given = at::clamp_min(wanted.expert_ids.roll(1, 0), 0);
      const Routing replayed = route(on_gpu, to_gpu(given, at::kLong));
      const std::int64_t unpadded = std::min<std::int64_t>(tokens, 1);
      EXPECT_EQ(bitwise_difference(replayed.expert_ids.narrow(0, 0, unpadded),
                                   given.narrow(0, 0, unpadded)),
                "");
      EXPECT_EQ(bitwise_difference(replayed.natural_ids, wanted.expert_ids), "");
      EXPECT_EQ(
          difference(
              replayed.weights, route_tokens(logits, {}, given, slots, rule).weights, 1e-5, 1e-12),
          "");
      if (tokens > 1) {
        EXPECT_NE(bitwise_difference(route(to_gpu(logits), {}).expert_ids, wanted.expert_ids), "")
            << "bfloat16 loses none of these ties: the test shows nothing";
      }
    }
  }
}

/// The last experts of a row of a number of experts that fills no vector; rows do not begin at
/// multiples of 16 bytes.
TEST(Float32Router, RowsOfOddLengthsAreReadWhole) {
  DOVETAIL_REQUIRE_GPU();
  for (const std::int64_t experts : {1, 3, 33, 250, 1023}) {
    const at::Tensor logits =
        at::arange(5 * experts, at::kFloat).view({5, experts}).div(1024).contiguous();
    const at::Tensor slots = to_gpu(at::arange(5, at::kLong), at::kLong);
    const Routing got = route_tokens(
        to_gpu(logits, at::kFloat), {}, {}, slots, {.top_k = 1}, Numerics::fast, kBfloat16);
    check_gpu();
    EXPECT_TRUE(got.expert_ids.eq(experts - 1).all().item<bool>()) << experts << " experts";
  }
}

}  // namespace
}  // namespace dovetail::test
