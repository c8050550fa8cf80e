// Latent attention against its formula in double, token by token without a cache: both forms, all
// cuts, pages and options. The two forms are one another's check as well.
#include "models/layers/latent_attention.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "framework/plan/kv_pages.hpp"
#include "framework/step/kv_cache.hpp"
#include "models/layers/rotary.hpp"
#include "tests/unit/models/row_check.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kHidden = 24;

double error_of(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.to(at::kDouble);
  return ((a.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

struct Case {
  LatentAttentionDims dims;
  LatentAttentionWeights weights;
  RopeParameters rope = {.theta = 1000.0};

  Case(std::int64_t q_lora_rank, bool rotates_pairs, bool has_biases) {
    dims = {.heads = 3,
            .qk_nope_head_dim = 10,
            .qk_rope_head_dim = 6,
            .v_head_dim = 7,
            .kv_lora_rank = 12,
            .q_lora_rank = q_lora_rank,
            .norm_epsilon = 1e-6,
            .softmax_scale = 0.31,
            .rotates_pairs = rotates_pairs};
    rope.mrope.section = {1, 1, 1};
    const auto matrix = [](std::int64_t rows, std::int64_t columns) {
      return at::randn({rows, columns}) / std::sqrt(static_cast<double>(columns));
    };
    const auto bias = [&](std::int64_t size) {
      return has_biases ? at::randn({size}) * 0.2 : at::Tensor();
    };
    if (q_lora_rank > 0) {
      weights.q_down = matrix(q_lora_rank, kHidden);
      weights.q_down_bias = bias(q_lora_rank);
      weights.q_norm = at::rand({q_lora_rank}) + 0.5;
    }
    weights.query = matrix(3 * 16, q_lora_rank > 0 ? q_lora_rank : kHidden);
    weights.kv_down = matrix(18, kHidden);
    weights.kv_down_bias = bias(18);
    weights.kv_norm = at::rand({12}) + 0.5;
    weights.kv_up = matrix(3 * 17, 12);
    weights.output = matrix(kHidden, 3 * 7);
    weights.output_bias = bias(kHidden);
  }
};

at::Tensor wide(const at::Tensor& x) {
  return x.defined() ? x.to(at::kDouble) : x;
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor result = at::matmul(x, wide(weight).t());
  return bias.defined() ? result + wide(bias) : result;
}

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) {
  return x / (x * x).mean(-1, true).add(1e-6).sqrt() * wide(weight);
}

/// One head's vector at a position: complex numbers of pairs, or of halves, times e^(i angle).
at::Tensor turned(const Case& of, const at::Tensor& x, std::int64_t position) {
  at::Tensor result = at::zeros_like(x);
  const std::int64_t half = x.size(-1) / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const double angle =
        static_cast<double>(position) *
        std::pow(of.rope.theta, -static_cast<double>(i) / static_cast<double>(half));
    const std::int64_t first = of.dims.rotates_pairs ? 2 * i : i;
    const std::int64_t second = of.dims.rotates_pairs ? 2 * i + 1 : i + half;
    const at::Tensor a = x.select(-1, first);
    const at::Tensor b = x.select(-1, second);
    result.select(-1, first).copy_(a * std::cos(angle) - b * std::sin(angle));
    result.select(-1, second).copy_(a * std::sin(angle) + b * std::cos(angle));
  }
  return result;
}

/// x [n, H] of one request from position 0 on -> [n, H], by the formula.
at::Tensor oracle(const Case& of, const at::Tensor& x) {
  const LatentAttentionDims& dims = of.dims;
  const std::int64_t n = x.size(0);
  const at::Tensor input = wide(x);
  const at::Tensor compressed =
      dims.q_lora_rank > 0
          ? norm(product(input, of.weights.q_down, of.weights.q_down_bias), of.weights.q_norm)
          : input;
  const at::Tensor queries = product(compressed, of.weights.query, {}).view({n, dims.heads, 16});
  const at::Tensor down = product(input, of.weights.kv_down, of.weights.kv_down_bias);
  const at::Tensor up =
      product(norm(down.narrow(1, 0, 12), of.weights.kv_norm), of.weights.kv_up, {})
          .view({n, dims.heads, 17});
  std::vector<at::Tensor> rows;
  std::vector<at::Tensor> rope_keys;
  for (std::int64_t t = 0; t < n; ++t) {
    rope_keys.push_back(turned(of, down[t].narrow(0, 12, 6), t));
    const at::Tensor rope_query = turned(of, queries[t].narrow(1, 10, 6), t);
    std::vector<at::Tensor> heads;
    for (std::int64_t h = 0; h < dims.heads; ++h) {
      std::vector<at::Tensor> scores;
      for (std::int64_t j = 0; j <= t; ++j) {
        const at::Tensor nope = (queries[t][h].narrow(0, 0, 10) * up[j][h].narrow(0, 0, 10)).sum();
        scores.push_back((nope + (rope_query[h] * rope_keys[static_cast<std::size_t>(j)]).sum()) *
                         dims.softmax_scale);
      }
      const at::Tensor weights = at::softmax(at::stack(scores), 0);
      heads.push_back(at::matmul(weights, up.narrow(0, 0, t + 1).select(1, h).narrow(1, 10, 7)));
    }
    rows.push_back(at::cat(heads));
  }
  return product(at::stack(rows), of.weights.output, of.weights.output_bias);
}

/// Requests in a paged cache of latents; runs them in passes of given lengths.
class Cached {
 public:
  Cached(const Case& of, std::vector<at::Tensor> requests, int page_size, std::uint64_t seed)
      : of_(of), requests_(std::move(requests)) {
    std::vector<std::int64_t> tokens;
    for (const at::Tensor& x : requests_) {
      tokens.push_back(x.size(0));
    }
    pages_ = allocate_kv_pages(tokens, page_size, 0, seed);
    ModelDims dims;
    dims.kv_heads = 1;
    dims.head_dim = of.dims.latent_size();
    dims.caches_latents = true;
    cache_ = make_kv_cache(pages_, dims, 1, at::kCPU);
    done_.resize(requests_.size());
    outputs_.resize(requests_.size());
  }

  /// The next `lengths` tokens of each request, and rows of padding behind them.
  void pass(const std::vector<std::int64_t>& lengths, Numerics numerics, std::int64_t padding = 2) {
    UbatchInputs inputs;
    std::vector<at::Tensor> rows;
    std::vector<std::int64_t> slots;
    std::vector<std::int64_t> positions;
    std::vector<at::Tensor> tables;
    for (std::size_t r = 0; r < lengths.size(); ++r) {
      if (lengths[r] == 0) {
        continue;
      }
      inputs.segments.push_back({.token_start = static_cast<std::int64_t>(slots.size()),
                                 .query_length = lengths[r],
                                 .context_length = done_[r]});
      rows.push_back(requests_[r].narrow(0, done_[r], lengths[r]));
      for (std::int64_t i = 0; i < lengths[r]; ++i) {
        positions.push_back(done_[r] + i);
        slots.push_back(pages_.slot(r, done_[r] + i));
      }
      at::Tensor table = at::full({40}, -1, at::kInt);
      for (std::size_t i = 0; i < pages_.pages[r].size(); ++i) {
        table[static_cast<std::int64_t>(i)] = static_cast<int>(pages_.pages[r][i]);
      }
      tables.push_back(table);
    }
    for (std::int64_t i = 0; i < padding; ++i) {
      rows.push_back(at::ones({1, kHidden}));
      slots.push_back(-1);
      positions.push_back(0);
    }
    inputs.num_tokens = static_cast<std::int64_t>(slots.size());
    inputs.slot_mapping = at::tensor(slots, at::kLong);
    inputs.block_tables = at::stack(tables);
    const Rotary rotary(6, of_.rope, at::kCPU);
    const at::Tensor table = rotary.table(at::tensor(positions, at::kLong), at::kFloat, numerics);
    const at::Tensor result = latent_attention(
        of_.dims, of_.weights, at::cat(rows), table, inputs, cache_.latents[0], numerics);
    std::size_t segment = 0;
    for (std::size_t r = 0; r < lengths.size(); ++r) {
      if (lengths[r] > 0) {
        outputs_[r].push_back(
            result.narrow(0, inputs.segments[segment++].token_start, lengths[r]).clone());
        done_[r] += lengths[r];
      }
    }
  }

  at::Tensor output(std::size_t request) const { return at::cat(outputs_[request]); }

 private:
  const Case& of_;
  std::vector<at::Tensor> requests_;
  KvPages pages_;
  KvCache cache_;
  std::vector<std::int64_t> done_;
  std::vector<std::vector<at::Tensor>> outputs_;
};

using Passes = std::vector<std::vector<std::int64_t>>;

/// Whole; chunks; decode behind prompts, beside a prefill; all by single tokens.
const std::vector<Passes> kCuts = {
    {{19, 1, 9}},
    {{7, 0, 9}, {11, 1, 0}, {1, 0, 0}},
    {{17, 0, 4}, {1, 1, 5}, {1, 0, 0}},
    Passes(19, {1, 0, 0}),
};

std::vector<at::Tensor> run(const Case& of,
                            const std::vector<at::Tensor>& requests,
                            const Passes& passes,
                            int page_size,
                            Numerics numerics) {
  Cached cached(of, requests, page_size, 5);
  std::vector<at::Tensor> outputs;
  for (const auto& lengths : passes) {
    cached.pass(lengths, numerics);
  }
  for (std::size_t r = 0; r < requests.size(); ++r) {
    if (passes.front()[r] + passes.back()[r] > 0 || passes.size() < 4) {
      outputs.push_back(cached.output(r));
    }
  }
  return outputs;
}

TEST(LatentAttention, IsItsFormulaInEveryCut) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  at::manual_seed(seed);
  for (const std::int64_t q_lora_rank : {0, 8}) {
    for (const bool rotates_pairs : {false, true}) {
      const Case of(q_lora_rank, rotates_pairs, /*has_biases=*/rotates_pairs);
      const std::vector<at::Tensor> requests = {
          at::randn({19, kHidden}), at::randn({1, kHidden}), at::randn({9, kHidden})};
      for (const auto& passes : kCuts) {
        for (const auto numerics : {Numerics::fast, Numerics::batch_invariant}) {
          for (const int page_size : {1, 4, 64}) {
            const auto outputs = run(of, requests, passes, page_size, numerics);
            for (std::size_t r = 0; r < outputs.size(); ++r) {
              EXPECT_LT(error_of(outputs[r], oracle(of, requests[r])), 2e-6)
                  << "request " << r << ", pages of " << page_size;
            }
          }
        }
      }
      // Its twin: the other way of turning, and another scale, are other functions.
      Case other = of;
      other.dims.rotates_pairs = !rotates_pairs;
      EXPECT_GT(error_of(oracle(other, requests[0]), oracle(of, requests[0])), 1e-3);
      other = of;
      other.dims.softmax_scale *= 1.1;
      const auto scaled = run(other, requests, kCuts[2], 4, Numerics::fast);
      EXPECT_GT(error_of(scaled[0], oracle(of, requests[0])), 1e-3);
    }
  }
}

TEST(LatentAttention, BatchInvariantBitsDependOnNoCut) {
  at::manual_seed(11);
  const Case of(8, true, true);
  const std::vector<at::Tensor> requests = {
      at::randn({19, kHidden}), at::randn({1, kHidden}), at::randn({9, kHidden})};
  const auto whole = run(of, requests, kCuts[0], 4, Numerics::batch_invariant);
  bool fast_differs = false;
  for (const auto& passes : kCuts) {
    for (const int page_size : {1, 4, 64}) {
      const auto outputs = run(of, requests, passes, page_size, Numerics::batch_invariant);
      EXPECT_EQ(count_different_bits(outputs[0], whole[0]), 0);
      const auto fast = run(of, requests, passes, page_size, Numerics::fast);
      fast_differs = fast_differs || count_different_bits(fast[0], whole[0]) > 0;
    }
  }
  EXPECT_TRUE(fast_differs) << "the test sees nothing";
}

TEST(LatentAttention, ExpandedAndAbsorbedAreEqual) {
  at::manual_seed(std::random_device{}());
  const Case of(0, true, false);
  const at::Tensor latents = at::randn({6, 4, 1, 18});
  const at::Tensor queries = at::randn({8, 3, 16});
  const std::vector<AttentionSegment> segments = {
      {.token_start = 0, .query_length = 1, .context_length = 9},
      {.token_start = 1, .query_length = 6, .context_length = 3}};
  const at::Tensor tables = at::tensor({5, 0, 2, 1, 3, 4}, at::kInt).view({2, 3});
  const auto attend = [&](const at::Tensor& cache) {
    return std::pair(attend_expanded(of.dims, of.weights.kv_up, queries, segments, tables, cache),
                     attend_absorbed(of.dims, of.weights.kv_up, queries, segments, tables, cache));
  };
  const auto [expanded, absorbed] = attend(latents);
  EXPECT_LT(error_of(absorbed, expanded), 2e-6);
  EXPECT_EQ(absorbed.narrow(0, 7, 1).abs().sum().item<double>(), 0) << "padding";
  // A slot behind a request's end is not read; one within changes both in the same way.
  at::Tensor changed = latents.clone();
  changed[2][2].fill_(NAN);  // place 10 of the first request, which has 10 tokens
  const auto [same, same_absorbed] = attend(changed);
  EXPECT_EQ(count_different_bits(same, expanded), 0);
  EXPECT_EQ(count_different_bits(same_absorbed, absorbed), 0);
  changed = latents.clone();
  changed[2][1].mul_(1.5);
  const auto [moved, moved_absorbed] = attend(changed);
  EXPECT_GT(error_of(moved, expanded), 1e-3);
  EXPECT_LT(error_of(moved_absorbed, moved), 2e-6);
}

TEST(LatentAttention, ExpandedLatentsAreProductsOfEachHead) {
  at::manual_seed(3);
  const Case of(0, false, false);
  const at::Tensor latents = at::randn({5, 1, 18});
  const ExpandedLatents expanded = expand_latents(of.dims, of.weights.kv_up, latents);
  ASSERT_EQ(expanded.keys.sizes(), at::IntArrayRef({5, 3, 16}));
  ASSERT_EQ(expanded.values.sizes(), at::IntArrayRef({5, 3, 7}));
  for (std::int64_t h = 0; h < 3; ++h) {
    const at::Tensor up = at::matmul(wide(latents.select(1, 0).narrow(1, 0, 12)),
                                     wide(of.weights.kv_up).narrow(0, 17 * h, 17).t());
    EXPECT_LT(error_of(expanded.keys.select(1, h).narrow(1, 0, 10), up.narrow(1, 0, 10)), 1e-6);
    EXPECT_LT(error_of(expanded.values.select(1, h), up.narrow(1, 10, 7)), 1e-6);
    EXPECT_EQ(count_different_bits(expanded.keys.select(1, h).narrow(1, 10, 6).contiguous(),
                                   latents.select(1, 0).narrow(1, 12, 6).contiguous()),
              0);
  }
}

}  // namespace
}  // namespace dovetail
