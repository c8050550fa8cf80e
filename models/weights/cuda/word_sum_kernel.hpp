// The kernel behind digests of GPU memory.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Adds (mod 2^64) hash_word(start, index, word) of all words of `size` bytes to `*sum`; both in
/// device memory, `bytes` at any address (16-byte aligned ones run at memory speed). The order of
/// the additions does not matter to the result. Enqueued on `stream`; size 0 enqueues nothing.
void launch_word_sum(const void* bytes,
                     std::int64_t size,
                     std::uint64_t start,
                     unsigned long long* sum,
                     cudaStream_t stream);

}  // namespace dovetail
