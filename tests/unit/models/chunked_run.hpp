// Requests computed chunk by chunk over one cache: chunked prefill, decode and mixed batches.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tests/unit/models/serial_step.hpp"

namespace dovetail {

/// Whole requests; rows of tensors one request after another.
struct ChunkedRequests {
  std::vector<std::vector<std::int64_t>> requests;  ///< ids
  at::Tensor embeds;                                ///< [T, H] instead of ids, or undefined
  at::Tensor mrope_positions;                       ///< [3, T], or undefined
};

/// [step][request]: how many of its next tokens each request computes; may be 0.
using ChunkSizes = std::vector<std::vector<std::int64_t>>;

/// Of all tokens, one request after another.
struct ChunkedResult {
  at::Tensor hidden;
  at::Tensor logits;
};

std::vector<std::int64_t> lengths_of(const std::vector<std::vector<std::int64_t>>& requests);

/// Chunks of random sizes, many of one token, until every request is complete.
ChunkSizes random_chunks(const std::vector<std::int64_t>& lengths, std::mt19937_64& random);

/// The next `counts` tokens of each request behind `contexts` in one batch and one ubatch.
SerialStep next_step(const ChunkedRequests& requests,
                     const std::vector<std::int64_t>& contexts,
                     const std::vector<std::int64_t>& counts);

/// All steps in order. With `split`, each batch is cut into four ubatches at random tokens.
ChunkedResult run_chunks(const std::vector<std::unique_ptr<Model>>& ranks,
                         const ChunkedRequests& requests,
                         const ChunkSizes& sizes,
                         SerialCache& cache,
                         std::mt19937_64* split = nullptr);

}  // namespace dovetail
