// Keys and values out of their pages into rows one after another, for an attention that knows no
// pages. One warp a key.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kKeys = 32;  // of a block
constexpr int kVector = 8;

/// Block (x, y): keys [32 x, 32 x + 32) of segment y.
__global__ void __launch_bounds__(kThreads) gather_keys(bf16* to_keys,
                                                        bf16* to_values,
                                                        const bf16* keys,
                                                        const bf16* values,
                                                        DeviceSegments segments,
                                                        int page_size,
                                                        int vectors) {
  const int segment = static_cast<int>(blockIdx.y);
  const int length = segments.key_lengths[segment];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = static_cast<int>(blockIdx.x) * kKeys;
  const int end = min(length, first + kKeys);
  for (int key = first + static_cast<int>(threadIdx.x) / kWarpSize; key < end;
       key += kThreads / kWarpSize) {
    const std::int64_t page =
        segments.block_tables[segment * segments.table_stride + key / page_size];
    const std::int64_t from = (page * page_size + key % page_size) * vectors;
    const std::int64_t to =
        (static_cast<std::int64_t>(segments.key_starts[segment]) + key) * vectors;
    for (int i = lane; i < vectors; i += kWarpSize) {
      const auto of_key = load_vector<kVector>(keys + (from + i) * kVector);
      const auto of_value = load_vector<kVector>(values + (from + i) * kVector);
      store_vector<kVector>(to_keys + (to + i) * kVector, of_key);
      store_vector<kVector>(to_values + (to + i) * kVector, of_value);
    }
  }
}

}  // namespace

void launch_gather_keys(void* keys,
                        void* values,
                        const PagedKeys& cache,
                        const DeviceSegments& segments,
                        std::int64_t max_key_length,
                        cudaStream_t stream) {
  const std::int64_t vectors = cache.kv_heads * cache.head_dim / kVector;
  DOVETAIL_CHECK(cache.head_dim % kVector == 0, "gather_keys: head_dim");
  DOVETAIL_CHECK(segments.count <= 65535, "gather_keys: number of segments");
  if (segments.count == 0 || max_key_length == 0 || vectors == 0) {
    return;
  }
  const dim3 grid(static_cast<unsigned>((max_key_length + kKeys - 1) / kKeys),
                  static_cast<unsigned>(segments.count));
  gather_keys<<<grid, kThreads, 0, stream>>>(static_cast<bf16*>(keys),
                                             static_cast<bf16*>(values),
                                             static_cast<const bf16*>(cache.keys),
                                             static_cast<const bf16*>(cache.values),
                                             segments,
                                             static_cast<int>(cache.page_size),
                                             static_cast<int>(vectors));
  check_cuda(cudaGetLastError(), "launch of gather_keys");
}

}  // namespace dovetail::gpu
