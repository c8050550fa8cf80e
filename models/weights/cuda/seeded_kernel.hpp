// Seeded values made in GPU memory, equal to generate_seeded and one rounding to the bit.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "framework/base/seeded_values.hpp"
#include "framework/base/types.hpp"

namespace dovetail {

/// Elements [first, first + count) of a parameter's stream.
struct SeededElements {
  std::uint64_t seed = 0;
  std::uint64_t parameter = 0;  ///< parameter_key of its name
  SeededScale scale;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Writes them to `values`, device memory aligned to its element type (float32, float16, bfloat16;
/// ContractError for others). Enqueued on `stream`; count 0 enqueues nothing.
void launch_seeded(const SeededElements& elements, DType dtype, void* values, cudaStream_t stream);

}  // namespace dovetail
