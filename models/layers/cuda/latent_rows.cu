// What multi-head latent attention does to the rows of its projections: the latent is normed, the
// rotary dims of its key and of all queries are turned, and the key goes into the cache. One block
// a token.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;
constexpr int kNormThreads = static_cast<int>(kLatentValueDim) / kVector;
constexpr int kNormWarps = kNormThreads / kWarpSize;
constexpr int kPairs = static_cast<int>(kLatentKeyDim - kLatentValueDim) / 2;

/// A pair of rotary dims: neighbours where they are interleaved, else half of the dims apart. It
/// turns as HeadPart::turn of qkv.cu does, and lies half of the dims apart from then on.
struct Pair {
  bf16 first;
  bf16 second;

  __device__ void turn(float cosine, float sine) {
    const float a = __bfloat162float(first);
    const float b = __bfloat162float(second);
    first = __float2bfloat16_rn(rounded(a * cosine) - b * sine);
    second = __float2bfloat16_rn(rounded(b * cosine) + a * sine);
  }
};

__device__ __forceinline__ Pair load_pair(const bf16* row, int pair, bool interleaved) {
  return interleaved ? Pair{row[2 * pair], row[2 * pair + 1]} : Pair{row[pair], row[pair + kPairs]};
}

__device__ __forceinline__ void store_pair(bf16* row, int pair, const Pair& turned) {
  row[pair] = turned.first;
  row[pair + kPairs] = turned.second;
}

/// The latent of the token, normed, to `latent` and `cached`, either of which may be null.
__device__ void norm_latent(const LatentRowsArguments& x,
                            const bf16* from,
                            bf16* latent,
                            bf16* cached) {
  __shared__ float squares_of_warps[kNormWarps];
  const int thread = static_cast<int>(threadIdx.x);
  Bf16Vector<kVector> part = {};
  if (thread < kNormThreads) {
    part = load_vector<kVector>(from + thread * kVector);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float value = __bfloat162float(part.values[i]);
      squares += value * value;
    }
    squares = sum_over_lanes<kWarpSize>(squares);
    if (thread % kWarpSize == 0) {
      squares_of_warps[thread / kWarpSize] = squares;
    }
  }
  __syncthreads();
  if (thread >= kNormThreads) {
    return;
  }
  float squares = 0;
#pragma unroll
  for (int warp = 0; warp < kNormWarps; ++warp) {
    squares += squares_of_warps[warp];
  }
  const float scale = rsqrtf(squares / static_cast<float>(kLatentValueDim) + x.epsilon);
  const auto weight = load_vector<kVector>(static_cast<const bf16*>(x.norm) + thread * kVector);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    part.values[i] = __float2bfloat16_rn(rounded(__bfloat162float(part.values[i]) * scale) *
                                         __bfloat162float(weight.values[i]));
  }
  if (latent != nullptr) {
    store_vector<kVector>(latent + thread * kVector, part);
  }
  if (cached != nullptr) {
    store_vector<kVector>(cached + thread * kVector, part);
  }
}

__global__ void __launch_bounds__(kThreads) norm_and_turn(const LatentRowsArguments x) {
  const auto token = static_cast<std::int64_t>(blockIdx.x);
  const bf16* const from = static_cast<const bf16*>(x.compressed) + token * x.compressed_stride;
  bf16* const latent =
      x.latents == nullptr ? nullptr : static_cast<bf16*>(x.latents) + token * kLatentValueDim;
  bf16* const rope_key =
      x.rope_keys == nullptr ? nullptr : static_cast<bf16*>(x.rope_keys) + token * 2 * kPairs;
  const std::int64_t slot = x.slots[token];
  bf16* const cached = slot < 0 ? nullptr : static_cast<bf16*>(x.cache) + slot * kLatentKeyDim;
  norm_latent(x, from, latent, cached);
  // Head -1 is the key's.
  const bf16* const cosine = static_cast<const bf16*>(x.rotary) + token * kPairs;
  const bf16* const sine = cosine + x.tokens * kPairs;
  for (int first = 0; first < (static_cast<int>(x.heads) + 1) * kPairs; first += kThreads) {
    // A warp takes a head: all of its pairs are read before one is written.
    const int i = first + static_cast<int>(threadIdx.x);
    const int head = i / kPairs - 1;
    const int pair = i % kPairs;
    if (head >= static_cast<int>(x.heads)) {
      continue;  // the whole warp
    }
    bf16* const query = static_cast<bf16*>(x.query_rope) + token * x.query_token_stride +
                        head * x.query_head_stride;
    Pair turned = load_pair(head < 0 ? from + kLatentValueDim : query, pair, x.interleaved);
    turned.turn(__bfloat162float(cosine[pair]), __bfloat162float(sine[pair]));
    __syncwarp();
    if (head >= 0) {
      store_pair(query, pair, turned);
      continue;
    }
    if (rope_key != nullptr) {
      store_pair(rope_key, pair, turned);
    }
    if (cached != nullptr) {
      store_pair(cached + kLatentValueDim, pair, turned);
    }
  }
}

static_assert(kPairs == kWarpSize, "a warp takes the pairs of a head");

/// Block (x, y): keys [8 x, 8 x + 8) of segment y, a warp a key.
__global__ void __launch_bounds__(kThreads) gather_latents(bf16* to_latents,
                                                           bf16* to_rope_keys,
                                                           const bf16* cache,
                                                           DeviceSegments segments,
                                                           int page_size) {
  const int segment = static_cast<int>(blockIdx.y);
  const int key = static_cast<int>(blockIdx.x) * (kThreads / kWarpSize) +
                  static_cast<int>(threadIdx.x) / kWarpSize;
  if (key >= segments.key_lengths[segment]) {
    return;
  }
  const std::int64_t page =
      segments.block_tables[segment * segments.table_stride + key / page_size];
  const bf16* const from = cache + (page * page_size + key % page_size) * kLatentKeyDim;
  const std::int64_t row = static_cast<std::int64_t>(segments.key_starts[segment]) + key;
  constexpr int vectors = static_cast<int>(kLatentKeyDim) / kVector;
  for (int i = static_cast<int>(threadIdx.x) % kWarpSize; i < vectors; i += kWarpSize) {
    bf16* const to = i < kNormThreads
                         ? to_latents + row * kLatentValueDim + i * kVector
                         : to_rope_keys + row * 2 * kPairs + (i - kNormThreads) * kVector;
    store_vector<kVector>(to, load_vector<kVector>(from + i * kVector));
  }
}

}  // namespace

void launch_gather_latents(void* latents,
                           void* rope_keys,
                           const void* cache,
                           std::int64_t page_size,
                           const DeviceSegments& segments,
                           std::int64_t max_key_length,
                           cudaStream_t stream) {
  DOVETAIL_CHECK(segments.count <= 65535, "gather_latents: number of segments");
  if (segments.count == 0 || max_key_length == 0) {
    return;
  }
  constexpr std::int64_t keys_of_block = kThreads / kWarpSize;
  const dim3 grid(static_cast<unsigned>((max_key_length + keys_of_block - 1) / keys_of_block),
                  static_cast<unsigned>(segments.count));
  gather_latents<<<grid, kThreads, 0, stream>>>(static_cast<bf16*>(latents),
                                                static_cast<bf16*>(rope_keys),
                                                static_cast<const bf16*>(cache),
                                                segments,
                                                static_cast<int>(page_size));
  check_cuda(cudaGetLastError(), "launch of gather_latents");
}

void launch_latent_rows(const LatentRowsArguments& arguments, cudaStream_t stream) {
  DOVETAIL_CHECK(arguments.compressed_stride % kVector == 0, "latent rows: alignment");
  DOVETAIL_CHECK(arguments.tokens < (std::int64_t{1} << 31), "latent rows: number of tokens");
  if (arguments.tokens == 0) {
    return;
  }
  norm_and_turn<<<static_cast<unsigned>(arguments.tokens), kThreads, 0, stream>>>(arguments);
  check_cuda(cudaGetLastError(), "launch of norm_and_turn");
}

}  // namespace dovetail::gpu
