// Attention under `numerics: batch_invariant` where ATen computes: the CPU, and float32 on a GPU.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// Positions of a request whose queries are computed at once.
inline constexpr std::int64_t kPositionBlock = 8;

/// attend_request (paged_context.hpp), one dtype. Whatever is cut where, the query at a position is
/// computed by the same calls of the same shape: with the other queries of its block of
/// kPositionBlock positions, counted from position 0 (zeros where this call has none), over all
/// keys up to the block's end (zeros where the request ends before). In float32 throughout, rounded
/// once.
at::Tensor attend_in_tiles(const at::Tensor& queries,
                           const at::Tensor& keys,
                           const at::Tensor& values,
                           std::int64_t context_length,
                           std::optional<double> scale = std::nullopt);

}  // namespace dovetail
