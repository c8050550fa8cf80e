#include "models/weights/cuda/word_sum_kernel.hpp"

#include <algorithm>

#include "framework/base/word_hash.hpp"
#include "framework/cuda/block_sum.cuh"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kLoadBytes = 16;

/// Loads of one thread before it is worth to have another one: each block ends in an atomic
/// addition.
constexpr std::int64_t kLoadsPerThread = 4;
/// Fills the threads of the largest GPUs built for (132 multiprocessors of 2048 threads).
constexpr std::int64_t kMaxBlocks = 132 * 8;

template <bool kAligned>
__global__ void __launch_bounds__(kThreads) word_sum_kernel(const unsigned char* bytes,
                                                            std::int64_t size,
                                                            std::uint64_t start,
                                                            unsigned long long* sum) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t thread = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  unsigned long long own = 0;
  std::int64_t words_done = 0;
  if constexpr (kAligned) {
    const auto* const pairs = reinterpret_cast<const ulonglong2*>(bytes);
    const std::int64_t num_pairs = size / kLoadBytes;
#pragma unroll 4
    for (std::int64_t i = thread; i < num_pairs; i += stride) {
      const ulonglong2 pair = pairs[i];
      own += hash_word(start, 2 * i, pair.x) + hash_word(start, 2 * i + 1, pair.y);
    }
    words_done = 2 * num_pairs;
  }
  // What is left: at most two words, or everything where wide loads are not allowed.
  for (std::int64_t i = words_done + thread; i * kHashedWordBytes < size; i += stride) {
    own += hash_word(start, i, word_from_bytes(bytes, size, i));
  }
  add_of_block<kThreads>(own, sum);
}

}  // namespace

void launch_word_sum(const void* bytes,
                     std::int64_t size,
                     std::uint64_t start,
                     unsigned long long* sum,
                     cudaStream_t stream) {
  if (size == 0) {
    return;
  }
  constexpr std::int64_t block_bytes = kLoadBytes * kLoadsPerThread * kThreads;
  const auto blocks =
      static_cast<unsigned>(std::min((size + block_bytes - 1) / block_bytes, kMaxBlocks));
  const auto* const from = static_cast<const unsigned char*>(bytes);
  if (reinterpret_cast<std::uintptr_t>(bytes) % kLoadBytes == 0) {
    word_sum_kernel<true><<<blocks, kThreads, 0, stream>>>(from, size, start, sum);
  } else {
    word_sum_kernel<false><<<blocks, kThreads, 0, stream>>>(from, size, start, sum);
  }
  check_cuda(cudaGetLastError(), "launch of the sum for digests");
}

}  // namespace dovetail
