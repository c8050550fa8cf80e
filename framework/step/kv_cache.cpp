#include "framework/step/kv_cache.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/seeded_values.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/step/cuda/kv_cache_fill.hpp"
#include "framework/step/torch_dtype.hpp"
#endif

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

enum class Side : std::uint64_t { keys = 0, values = 1, latents = 2 };

Side side_of(std::vector<at::Tensor> KvCache::*layers) {
  return layers == &KvCache::keys     ? Side::keys
         : layers == &KvCache::values ? Side::values
                                      : Side::latents;
}

/// Names request, layer of the model and side.
std::uint64_t stream_of(const Request& request,
                        const ModelDims& dims,
                        std::size_t layer,
                        Side side) {
  const auto global_layer = static_cast<std::uint64_t>(dims.first_layer) + layer;
  return hash_of(
      {static_cast<std::uint64_t>(request.id), global_layer, static_cast<std::uint64_t>(side)});
}

std::vector<std::int64_t> context_slots(const std::vector<Request>& requests,
                                        const KvPages& pages,
                                        std::size_t index) {
  std::vector<std::int64_t> slots;
  for (std::int64_t position = 0; position < requests[index].context_length; ++position) {
    slots.push_back(pages.slot(index, position));
  }
  return slots;
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

#ifdef DOVETAIL_WITH_CUDA

/// [tokens, kContextTokenWords] int64 in host memory, as the kernel reads them.
at::Tensor context_tokens(const std::vector<Request>& requests, const KvPages& pages) {
  std::vector<std::int64_t> words;
  for (std::size_t index = 0; index < requests.size(); ++index) {
    std::int64_t position = 0;
    for (const std::int64_t slot : context_slots(requests, pages, index)) {
      // A kernel does not notice a slot outside of the cache.
      DOVETAIL_CHECK(slot >= 0 && slot < pages.num_pages * pages.page_size,
                     "slot " + std::to_string(slot) + " is outside of the cache");
      words.insert(words.end(), {slot, position, static_cast<std::int64_t>(index)});
      ++position;
    }
  }
  return at::tensor(words, at::kLong);
}

/// [layers * parts, requests] int64 in host memory: the parts of each layer.
at::Tensor context_streams(const std::vector<Request>& requests,
                           const ModelDims& dims,
                           const KvCache& cache) {
  std::vector<std::int64_t> streams;
  for (std::size_t layer = 0; layer < cache.num_layers(); ++layer) {
    for (const auto& part : cache.parts()) {
      for (const Request& request : requests) {
        streams.push_back(
            static_cast<std::int64_t>(stream_of(request, dims, layer, side_of(part.layers))));
      }
    }
  }
  return at::tensor(streams, at::kLong);
}

void fill_on_gpu(KvCache& cache,
                 const std::vector<Request>& requests,
                 const KvPages& pages,
                 const ModelDims& dims,
                 std::uint64_t seed) {
  const at::Device device = (cache.*cache.parts().front().layers).front().device();
  const c10::cuda::CUDAGuard guard(device);
  const auto stream = c10::cuda::getCurrentCUDAStream(device.index());
  const at::Tensor tokens = context_tokens(requests, pages).to(device);
  const at::Tensor streams = context_streams(requests, dims, cache).to(device);
  const ContextTokens contexts = {
      .tokens = tokens.const_data_ptr<std::int64_t>(),
      .num_tokens = tokens.numel() / kContextTokenWords,
      .row_elements = dims.kv_heads * dims.head_dim,
  };
  const std::int64_t* next_streams = streams.const_data_ptr<std::int64_t>();
  for (std::size_t layer = 0; layer < cache.num_layers(); ++layer) {
    for (const auto& part : cache.parts()) {
      at::Tensor& rows = (cache.*part.layers).at(layer);
      DOVETAIL_CHECK(rows.is_contiguous() && rows.device() == device &&
                         rows.numel() == pages.num_pages * pages.page_size * contexts.row_elements,
                     "the cache does not fit the pages");
      launch_fill_context(contexts,
                          {.rows = rows.mutable_data_ptr(),
                           .dtype = from_torch(rows.scalar_type()),
                           .streams = next_streams},
                          seed,
                          kUnitScale,
                          stream);
      next_streams += requests.size();
    }
  }
}

#endif

}  // namespace

KvCache make_kv_cache(const KvPages& pages,
                      const ModelDims& dims,
                      int num_layers,
                      at::Device device) {
  const auto options = at::TensorOptions().dtype(dims.dtype).device(device);
  KvCache cache;
  for (int layer = 0; layer < num_layers; ++layer) {
    for (const auto& part : KvCache::parts_of(dims.caches_latents)) {
      (cache.*part.layers)
          .push_back(at::full(
              {pages.num_pages, pages.page_size, dims.kv_heads, dims.head_dim}, kNan, options));
    }
  }
  return cache;
}

void poison_slots(KvCache& cache, const at::Tensor& slots) {
  for (const auto& part : cache.parts()) {
    for (at::Tensor& tensor : cache.*part.layers) {
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
#ifdef DOVETAIL_WITH_CUDA
  if (cache.num_layers() > 0 && (cache.*cache.parts().front().layers).front().is_cuda()) {
    fill_on_gpu(cache, requests, pages, dims, seed);
    return;
  }
#endif
  for (std::size_t index = 0; index < requests.size(); ++index) {
    const std::vector<std::int64_t> slots = context_slots(requests, pages, index);
    for (std::size_t layer = 0; layer < cache.num_layers(); ++layer) {
      for (const auto& part : cache.parts()) {
        fill_request((cache.*part.layers)[layer],
                     slots,
                     seed,
                     stream_of(requests[index], dims, layer, side_of(part.layers)));
      }
    }
  }
}

}  // namespace dovetail
