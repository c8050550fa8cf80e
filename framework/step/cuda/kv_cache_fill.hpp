// Seeded keys and values written into a KV cache in GPU memory, equal to the CPU's to the bit.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "framework/base/seeded_values.hpp"
#include "framework/base/types.hpp"

namespace dovetail {

/// Words of one token in `tokens` below: its slot, its position, the index of its request.
inline constexpr std::int64_t kContextTokenWords = 3;

/// The tokens of all contexts of a rank, in device memory.
struct ContextTokens {
  const std::int64_t* tokens = nullptr;  ///< [num_tokens, kContextTokenWords]
  std::int64_t num_tokens = 0;
  std::int64_t row_elements = 0;  ///< of one token in one tensor: kv_heads * head_dim
};

/// One tensor of the cache: [slots, row_elements], float32, float16 or bfloat16 (ContractError for
/// others), with the stream of values of each request.
struct ContextTensor {
  void* rows = nullptr;
  DType dtype = DType::float32;
  const std::int64_t* streams = nullptr;  ///< [requests], the bits of unsigned numbers
};

/// Element e of the row of each token's slot becomes value (position * row_elements + e) of the
/// stream of its request. Enqueued on `stream`; without tokens or elements nothing is enqueued.
void launch_fill_context(const ContextTokens& tokens,
                         const ContextTensor& tensor,
                         std::uint64_t seed,
                         const SeededScale& scale,
                         cudaStream_t stream);

}  // namespace dovetail
