#include "framework/step/kv_cache.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

namespace dovetail {
namespace {

constexpr int kLayers = 3;

ModelDims small_dims() {
  return {.kv_heads = 2, .head_dim = 6};
}

StepWorkload with_contexts(const std::vector<Request>& requests) {
  StepWorkload workload;
  workload.batch.requests = requests;
  return workload;
}

KvPages pages_for(const StepWorkload& workload, int page_size, std::uint64_t seed) {
  std::vector<std::int64_t> tokens;
  for (const Request& request : workload.batch.requests) {
    tokens.push_back(request.context_length + request.query_length);
  }
  return allocate_kv_pages(tokens, page_size, 0, seed);
}

/// Values of (side and layer of the model, request, position), read slot by slot.
using Values = std::map<std::tuple<std::string, std::int64_t, std::int64_t>, std::vector<float>>;

Values values_of(const StepWorkload& workload,
                 int page_size,
                 const ModelDims& dims,
                 std::uint64_t seed,
                 int num_layers) {
  const auto pages = pages_for(workload, page_size, 7);
  KvCache cache = make_kv_cache(pages, dims, num_layers, at::kCPU);
  fill_context_random(cache, workload, pages, dims, seed);
  Values values;
  std::int64_t written = 0;
  for (int layer = 0; layer < num_layers; ++layer) {
    for (auto* side : {&cache.keys, &cache.values}) {
      const at::Tensor all = (*side)[static_cast<std::size_t>(layer)];
      written += at::isnan(all).logical_not().sum().item<std::int64_t>();
      for (std::size_t r = 0; r < workload.batch.requests.size(); ++r) {
        const auto& request = workload.batch.requests[r];
        for (std::int64_t position = 0; position < request.context_length; ++position) {
          const auto slot = pages.slot(r, position);
          const at::Tensor row =
              all[slot / page_size][slot % page_size].to(at::kFloat).contiguous();
          const std::string name = (side == &cache.keys ? "keys of layer " : "values of layer ") +
                                   std::to_string(dims.first_layer + layer);
          values[{name, request.id, position}] = {row.const_data_ptr<float>(),
                                                  row.const_data_ptr<float>() + row.numel()};
        }
      }
    }
  }
  // Nothing but the contexts is written.
  EXPECT_EQ(written, static_cast<std::int64_t>(values.size()) * dims.kv_heads * dims.head_dim);
  return values;
}

TEST(KvCache, StartsAsNanInPages) {
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{5, 3}, 4, 16, 1);
  const KvCache cache = make_kv_cache(pages, small_dims(), kLayers, at::kCPU);
  ASSERT_EQ(cache.keys.size(), 3U);
  ASSERT_EQ(cache.values.size(), 3U);
  EXPECT_EQ(cache.keys[2].sizes(), (at::IntArrayRef{4, 4, 2, 6}));
  EXPECT_TRUE(at::isnan(cache.keys[0]).all().item<bool>());
  EXPECT_TRUE(at::isnan(cache.values[2]).all().item<bool>());
}

TEST(KvCache, OfLatentsHasOnePart) {
  ModelDims dims = small_dims();
  dims.kv_heads = 1;
  dims.caches_latents = true;
  StepWorkload step;
  step.batch.requests.push_back({.id = 3, .query_length = 1, .context_length = 2});
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{3}, 4, 0, 1);
  KvCache cache = make_kv_cache(pages, dims, kLayers, at::kCPU);
  EXPECT_TRUE(cache.keys.empty() && cache.values.empty());
  ASSERT_EQ(cache.num_layers(), 3U);
  ASSERT_EQ(cache.parts().size(), 1U);
  EXPECT_STREQ(cache.parts().front().name, "latent_");
  EXPECT_EQ(cache.latents[1].sizes(), (at::IntArrayRef{1, 4, 1, 6}));
  fill_context_random(cache, step, pages, dims, 1);
  const auto first = [&](const at::Tensor& tensor) {
    return tensor.flatten(0, 1)[pages.slot(0, 0)][0][0].item<float>();
  };
  // Values of their own: neither another layer's nor those of keys or values.
  dims.caches_latents = false;
  KvCache others = make_kv_cache(pages, dims, kLayers, at::kCPU);
  fill_context_random(others, step, pages, dims, 1);
  const std::set<float> firsts = {first(cache.latents[0]),
                                  first(cache.latents[1]),
                                  first(others.keys[0]),
                                  first(others.values[0])};
  EXPECT_EQ(firsts.size(), 4U);
  EXPECT_TRUE(std::none_of(firsts.begin(), firsts.end(), [](float x) { return std::isnan(x); }));
  EXPECT_TRUE(cache.latents[0].flatten(0, 1)[pages.slot(0, 2)].isnan().all().item<bool>());
  poison_slots(cache, at::tensor({pages.slot(0, 1)}, at::kLong));
  EXPECT_TRUE(cache.latents[2].flatten(0, 1)[pages.slot(0, 1)].isnan().all().item<bool>());
  EXPECT_FALSE(cache.latents[2].flatten(0, 1)[pages.slot(0, 0)].isnan().any().item<bool>());
}

TEST(KvCache, OfAnIdleRankIsEmpty) {
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{}, 4, 0, 1);
  KvCache cache = make_kv_cache(pages, small_dims(), kLayers, at::kCPU);
  EXPECT_EQ(cache.keys[1].sizes(), (at::IntArrayRef{0, 4, 2, 6}));
  poison_slots(cache, at::empty({0}, at::kLong));
  fill_context_random(cache, {}, pages, small_dims(), 1);
}

TEST(KvCache, RandomContextsNameRequestAndLayer) {
  // Requests 0 to 2 in layers 0 to 2: also where the one's request is the other's layer.
  const auto dims = small_dims();
  StepWorkload step;
  for (std::int64_t request = 0; request < 3; ++request) {
    step.batch.requests.push_back({.id = request, .query_length = 1, .context_length = 2});
  }
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{3, 3, 3}, 4, 0, 1);
  KvCache cache = make_kv_cache(pages, dims, kLayers, at::kCPU);
  fill_context_random(cache, step, pages, dims, 1);
  std::set<float> firsts;
  for (const auto* side : {&cache.keys, &cache.values}) {
    for (const at::Tensor& tensor : *side) {
      for (std::size_t request = 0; request < 3; ++request) {
        firsts.insert(tensor.flatten(0, 1)[pages.slot(request, 0)][0][0].item<float>());
      }
    }
  }
  EXPECT_EQ(firsts.size(), 2 * 3 * 3U);
}

TEST(KvCache, PoisonReachesTheSlotsOnly) {
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{5, 3}, 4, 16, 1);
  KvCache cache = make_kv_cache(pages, small_dims(), kLayers, at::kCPU);
  for (auto* side : {&cache.keys, &cache.values}) {
    for (at::Tensor& tensor : *side) {
      tensor.zero_();
    }
  }
  poison_slots(cache, at::tensor({0, 7, 9}, at::kLong));
  for (const auto* side : {&cache.keys, &cache.values}) {
    for (const at::Tensor& tensor : *side) {
      for (std::int64_t slot = 0; slot < 16; ++slot) {
        const bool poisoned = slot == 0 || slot == 7 || slot == 9;
        EXPECT_EQ(at::isnan(tensor[slot / 4][slot % 4]).all().item<bool>(), poisoned) << slot;
        EXPECT_EQ(at::isnan(tensor[slot / 4][slot % 4]).any().item<bool>(), poisoned) << slot;
      }
    }
  }
}

TEST(RandomContext, IsTheSameOnEveryGridForEveryPageSizeAndStage) {
  const Request first = {.id = 3, .query_length = 1, .context_length = 37};
  const Request second = {.id = 4, .query_length = 2, .context_length = 0};
  const Request third = {.id = 90, .query_length = 1, .context_length = 1100};
  const auto together = with_contexts({first, second, third});
  const auto whole = values_of(together, 1, small_dims(), 5, kLayers);
  EXPECT_EQ(whole.size(), 2U * kLayers * (37 + 1100));
  EXPECT_EQ(values_of(together, 16, small_dims(), 5, kLayers), whole);
  EXPECT_EQ(values_of(with_contexts({third, first}), 3, small_dims(), 5, kLayers), whole);
  // One request and two layers of the model behind a stage of one.
  ModelDims later = small_dims();
  later.first_layer = 1;
  const auto part = values_of(with_contexts({third}), 16, later, 5, kLayers - 1);
  EXPECT_EQ(part.size(), 2U * 2 * 1100);
  for (const auto& [place, values] : part) {
    EXPECT_EQ(values, whole.at(place));
  }
}

TEST(RandomContext, ValuesAreDistinctAndSpread) {
  const auto workload = with_contexts({{.id = 3, .query_length = 1, .context_length = 2100},
                                       {.id = 4, .query_length = 1, .context_length = 300}});
  std::map<std::vector<float>, int> seen;
  double sum = 0;
  double squares = 0;
  double count = 0;
  for (const auto& [place, values] : values_of(workload, 16, small_dims(), 5, kLayers)) {
    EXPECT_EQ(++seen[values], 1);
    for (const float value : values) {
      sum += value;
      squares += double{value} * value;
      ++count;
    }
  }
  EXPECT_NEAR(sum / count, 0, 0.03);
  EXPECT_NEAR(squares / count, 1, 0.03);
  for (const auto& [place, values] : values_of(workload, 16, small_dims(), 6, kLayers)) {
    EXPECT_EQ(seen.count(values), 0U);  // another seed
  }
}

TEST(RandomContext, ReducedPrecisionIsRoundedOnce) {
  const auto workload = with_contexts({{.id = 3, .query_length = 1, .context_length = 9}});
  ModelDims half = small_dims();
  half.dtype = at::kBFloat16;
  const auto exact = values_of(workload, 2, small_dims(), 5, 1);
  for (const auto& [place, values] : values_of(workload, 2, half, 5, 1)) {
    const at::Tensor rounded = at::tensor(exact.at(place)).to(at::kBFloat16).to(at::kFloat);
    EXPECT_TRUE(at::equal(rounded, at::tensor(values)));
  }
}

}  // namespace
}  // namespace dovetail
