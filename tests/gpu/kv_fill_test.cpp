// KV caches in GPU memory: made, poisoned, and filled with the CPU's random contexts to the bit.
#include <chrono>
#include <cmath>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "framework/step/kv_cache.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/tensor_bits.hpp"

namespace dovetail {
namespace {

using test::bit_difference;
using test::own_gpu;

StepWorkload with_contexts(const std::vector<Request>& requests) {
  StepWorkload workload;
  workload.batch.requests = requests;
  return workload;
}

KvPages pages_for(const StepWorkload& workload, int page_size, std::int64_t cache_tokens = 0) {
  std::vector<std::int64_t> tokens;
  for (const Request& request : workload.batch.requests) {
    tokens.push_back(request.context_length + request.query_length);
  }
  return allocate_kv_pages(tokens, page_size, cache_tokens, 11);
}

/// A copy in GPU memory; with `shift` the tensors begin that many elements behind an aligned
/// address.
KvCache copy_to_gpu(const KvCache& cache, std::int64_t shift) {
  KvCache copy;
  for (const auto& [from, to] :
       {std::pair{&cache.keys, &copy.keys}, {&cache.values, &copy.values}}) {
    for (const at::Tensor& tensor : *from) {
      const at::Tensor room =
          at::empty({tensor.numel() + shift}, tensor.options().device(own_gpu()));
      to->push_back(room.narrow(0, shift, tensor.numel()).view(tensor.sizes()));
      to->back().copy_(tensor);
    }
  }
  return copy;
}

std::string difference(const KvCache& got, const KvCache& wanted) {
  for (std::size_t layer = 0; layer < wanted.keys.size(); ++layer) {
    for (const auto& [side, a, b] :
         {std::tuple{"keys", &got.keys, &wanted.keys}, {"values", &got.values, &wanted.values}}) {
      const std::string text = bit_difference((*a)[layer], (*b)[layer]);
      if (!text.empty()) {
        return std::string(side) + " of layer " + std::to_string(layer) + ": " + text;
      }
    }
  }
  return {};
}

struct Case {
  ModelDims dims;
  int page_size = 1;
  std::int64_t shift = 0;
  std::vector<Request> requests;
};

Case random_case(std::mt19937_64& random) {
  const auto between = [&](std::int64_t from, std::int64_t to) {
    return std::uniform_int_distribution<std::int64_t>(from, to)(random);
  };
  Case made;
  constexpr at::ScalarType types[] = {at::kFloat, at::kBFloat16, at::kHalf};
  constexpr int heads[][2] = {{4, 128}, {1, 8}, {2, 6}, {1, 3}, {3, 4}, {2, 1}};
  constexpr int page_sizes[] = {1, 3, 16, 64};
  const auto& head = heads[between(0, 5)];
  made.dims = {.kv_heads = head[0],
               .head_dim = head[1],
               .dtype = types[between(0, 2)],
               .first_layer = static_cast<int>(between(0, 5))};
  made.page_size = page_sizes[between(0, 3)];
  made.shift = between(0, 2) == 0 ? between(1, 7) : 0;
  const std::int64_t count = between(0, 5);
  for (std::int64_t i = 0; i < count; ++i) {
    made.requests.push_back({.id = 10 * i + between(0, 9),
                             .query_length = between(1, 4),
                             .context_length = between(0, 3) == 0 ? 0 : between(1, 200)});
  }
  return made;
}

TEST(GpuKvCache, RandomContextsEqualTheCpuToTheBit) {
  DOVETAIL_REQUIRE_GPU();
  const std::uint64_t seed = test::fresh_seed();
  std::mt19937_64 random(seed);
  int twins = 0;
  for (int i = 0; i < 120; ++i) {
    const Case made = random_case(random);
    const StepWorkload workload = with_contexts(made.requests);
    const KvPages pages = pages_for(workload, made.page_size);
    KvCache wanted = make_kv_cache(pages, made.dims, 2, at::kCPU);
    const KvCache poisoned = copy_to_gpu(wanted, made.shift);  // the same NaN on both devices
    KvCache got = copy_to_gpu(wanted, made.shift);
    fill_context_random(wanted, workload, pages, made.dims, seed);
    fill_context_random(got, workload, pages, made.dims, seed);
    std::ostringstream place;
    place << "seed " << seed << ", case " << i << ": heads " << made.dims.kv_heads << " of "
          << made.dims.head_dim << ", " << made.dims.dtype << ", pages of " << made.page_size
          << ", shift " << made.shift << ", requests " << made.requests.size();
    ASSERT_EQ(difference(got, wanted), "") << place.str();
    if (difference(poisoned, wanted).empty()) {
      continue;  // no context at all
    }
    // Negative twins: another seed, another layer.
    ModelDims other = made.dims;
    ++other.first_layer;
    fill_context_random(got, workload, pages, other, seed);
    EXPECT_NE(difference(got, wanted), "") << place.str();
    fill_context_random(got, workload, pages, made.dims, seed + 1);
    EXPECT_NE(difference(got, wanted), "") << place.str();
    ++twins;
  }
  EXPECT_GT(twins, 40);
}

TEST(GpuKvCache, StartsAsNanAndPoisonReachesTheSlotsOnly) {
  DOVETAIL_REQUIRE_GPU();
  const ModelDims dims = {.kv_heads = 2, .head_dim = 8, .dtype = at::kBFloat16};
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{5, 3}, 4, 16, 1);
  KvCache cache = make_kv_cache(pages, dims, 2, own_gpu());
  for (auto* side : {&cache.keys, &cache.values}) {
    ASSERT_EQ(side->size(), 2U);
    for (at::Tensor& tensor : *side) {
      EXPECT_EQ(tensor.sizes(), (at::IntArrayRef{4, 4, 2, 8}));
      EXPECT_TRUE(tensor.isnan().all().item<bool>());
      tensor.zero_();
    }
  }
  poison_slots(cache, at::tensor({0, 7, 9}, at::kLong).to(own_gpu()));
  for (const auto* side : {&cache.keys, &cache.values}) {
    for (const at::Tensor& tensor : *side) {
      const at::Tensor host = tensor.cpu();
      for (std::int64_t slot = 0; slot < 16; ++slot) {
        const at::Tensor row = host[slot / 4][slot % 4];
        const bool poisoned = slot == 0 || slot == 7 || slot == 9;
        EXPECT_EQ(row.isnan().all().item<bool>(), poisoned) << "slot " << slot;
        EXPECT_EQ(row.isnan().any().item<bool>(), poisoned) << "slot " << slot;
      }
    }
  }
}

TEST(GpuKvCache, OfAnIdleRankIsEmpty) {
  DOVETAIL_REQUIRE_GPU();
  const ModelDims dims = {.kv_heads = 2, .head_dim = 8, .dtype = at::kBFloat16};
  const auto pages = allocate_kv_pages(std::vector<std::int64_t>{}, 4, 0, 1);
  KvCache cache = make_kv_cache(pages, dims, 2, own_gpu());
  EXPECT_EQ(cache.keys[1].numel(), 0);
  poison_slots(cache, at::empty({0}, cache.keys[0].options().dtype(at::kLong)));
  fill_context_random(cache, {}, pages, dims, 1);
}

TEST(GpuKvCache, ManyTokensInSlotsBeyondTwoToThe31Elements) {
  DOVETAIL_REQUIRE_GPU();
  const ModelDims dims = {.kv_heads = 4, .head_dim = 128, .dtype = at::kBFloat16};
  std::vector<Request> requests;
  for (int id = 0; id < 128; ++id) {
    requests.push_back({.id = 3 * id, .query_length = 1, .context_length = 1024});
  }
  const StepWorkload workload = with_contexts(requests);
  constexpr std::int64_t cache_tokens = std::int64_t{1} << 23;  // 2^32 elements a tensor
  const KvPages pages = pages_for(workload, 16, cache_tokens);
  KvCache cache = make_kv_cache(pages, dims, 1, own_gpu());
  cache.keys[0][0][0].cpu();  // waits
  const auto start = std::chrono::steady_clock::now();
  fill_context_random(cache, workload, pages, dims, 5);
  cache.keys[0][0][0].cpu();
  std::cout << "random context of 128 x 1024 tokens, one layer: "
            << std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()
            << " s\n";
  const KvPages small_pages = pages_for(workload, 64);
  KvCache wanted = make_kv_cache(small_pages, dims, 1, at::kCPU);
  fill_context_random(wanted, workload, small_pages, dims, 5);
  std::vector<std::int64_t> slots;
  std::vector<std::int64_t> small_slots;
  bool beyond = false;
  for (std::size_t request = 0; request < requests.size(); ++request) {
    for (std::int64_t position = 0; position < 1024; ++position) {
      slots.push_back(pages.slot(request, position));
      small_slots.push_back(small_pages.slot(request, position));
      beyond = beyond || slots.back() * 512 > std::int64_t{1} << 31;
    }
  }
  EXPECT_TRUE(beyond);
  const auto rows_of = [](const at::Tensor& tensor, const std::vector<std::int64_t>& places) {
    return at::index_select(
        tensor.flatten(0, 1), 0, at::tensor(places, at::kLong).to(tensor.device()));
  };
  for (const auto& [got, expected] :
       {std::pair{&cache.keys, &wanted.keys}, {&cache.values, &wanted.values}}) {
    EXPECT_EQ(bit_difference(rows_of((*got)[0], slots), rows_of((*expected)[0], small_slots)), "");
    // Nothing else was written.
    const auto written = static_cast<std::int64_t>(slots.size()) * 512;
    EXPECT_EQ((*got)[0].numel() - (*got)[0].isnan().sum().item<std::int64_t>(), written);
  }
}

}  // namespace
}  // namespace dovetail
