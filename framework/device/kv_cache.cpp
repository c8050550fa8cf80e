#include "framework/device/kv_cache.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/seeded_values.hpp"

namespace dovetail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Positions that are made at once.
constexpr std::int64_t kPieceTokens = 1024;

/// Uniform over (-a, a) with a = sqrt(3): standard deviation 1.
constexpr SeededScale kUnitScale = {
    .offset = 0, .shift = 8, .scale = 1.7320508F / static_cast<float>(1 << 24)};

/// [pages, page_size, kv_heads, head_dim] as [slots, kv_heads, head_dim]; a view.
at::Tensor by_slot(const at::Tensor& cache) {
  return cache.flatten(0, 1);
}

/// Writes values [first, first + count) of a stream.
void fill_values(
    std::uint64_t seed, std::uint64_t stream, std::int64_t first, std::int64_t count, float* to) {
  const std::int64_t end = first + count;
  for (std::int64_t block = first / 4; block * 4 < end; ++block) {
    const RandomBlock made = random_block(seed, stream, static_cast<std::uint64_t>(block));
    for (std::int64_t index = std::max(first, block * 4); index < std::min(end, block * 4 + 4);
         ++index) {
      to[index - first] = seeded_value(made.words[index - block * 4], kUnitScale);
    }
  }
}

/// Values of one request in one tensor of the cache; `stream` names layer, side and request.
void fill_request(at::Tensor& cache,
                  const std::vector<std::int64_t>& slots,
                  std::uint64_t seed,
                  std::uint64_t stream) {
  at::Tensor flat = by_slot(cache);
  const std::int64_t row = flat.size(1) * flat.size(2);
  const at::Tensor all_slots = at::tensor(slots, at::kLong);
  for (std::int64_t first = 0; first < all_slots.size(0); first += kPieceTokens) {
    const std::int64_t count = std::min(kPieceTokens, all_slots.size(0) - first);
    const at::Tensor values = at::empty({count, flat.size(1), flat.size(2)}, at::kFloat);
    fill_values(seed, stream, first * row, count * row, values.mutable_data_ptr<float>());
    flat.index_copy_(0, all_slots.narrow(0, first, count), values.to(flat.scalar_type()));
  }
}

}  // namespace

KvCache make_kv_cache(const KvPages& pages,
                      const ModelDims& dims,
                      int num_layers,
                      at::Device device) {
  const auto options = at::TensorOptions().dtype(dims.dtype).device(device);
  KvCache cache;
  for (int layer = 0; layer < num_layers; ++layer) {
    for (auto* tensors : {&cache.keys, &cache.values}) {
      tensors->push_back(at::full(
          {pages.num_pages, pages.page_size, dims.kv_heads, dims.head_dim}, kNan, options));
    }
  }
  return cache;
}

void poison_slots(KvCache& cache, const at::Tensor& slots) {
  for (auto* tensors : {&cache.keys, &cache.values}) {
    for (at::Tensor& tensor : *tensors) {
      by_slot(tensor).index_fill_(0, slots, kNan);
    }
  }
}

void fill_context_random(KvCache& cache,
                         const StepWorkload& first_step,
                         const KvPages& pages,
                         const ModelDims& dims,
                         std::uint64_t seed) {
  const auto& requests = first_step.batch.requests;
  DOVETAIL_CHECK_EQ(requests.size(), pages.pages.size());
  for (std::size_t index = 0; index < requests.size(); ++index) {
    std::vector<std::int64_t> slots;
    for (std::int64_t position = 0; position < requests[index].context_length; ++position) {
      slots.push_back(pages.slot(index, position));
    }
    const auto request = mix_bits(static_cast<std::uint64_t>(requests[index].id));
    for (std::size_t layer = 0; layer < cache.keys.size(); ++layer) {
      const auto global_layer = static_cast<std::uint64_t>(dims.first_layer) + layer;
      const auto of_layer = combine_hash(request, global_layer);
      fill_request(cache.keys[layer], slots, seed, combine_hash(of_layer, 0));
      fill_request(cache.values[layer], slots, seed, combine_hash(of_layer, 1));
    }
  }
}

}  // namespace dovetail
