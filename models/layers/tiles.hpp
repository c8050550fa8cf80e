// The unit of work of `numerics: batch_invariant`: a tile, which one thread computes on a CPU.
// Where a library computes it (attention; float32 on a GPU), its sizes follow from the layer's
// sizes and a row's place alone: libraries choose kernels by all sizes of a call, by the number of
// threads and by that of SMs, so a row's bits stay the same where every call that it can be part of
// has one shape and one thread, or all SMs.
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// Rows that a GPU computes at once; the last block of a batch is filled up with zeros.
inline constexpr std::int64_t kRowBlock = 32;

/// count / size, rounded up.
constexpr std::int64_t num_blocks(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

/// Calls compute(0) ... compute(count - 1). On the CPU the threads that ATen may use share the
/// calls, in no order, and what a call computes with ATen runs in its one thread, also where there
/// is one call only; on a GPU this thread enqueues them in order, without regard to an SmPartition.
/// Rethrows what a call throws.
void for_each_tile(at::Device device,
                   std::int64_t count,
                   const std::function<void(std::int64_t)>& compute);

/// x, or a copy of it where x is not contiguous or not aligned as a new tensor is.
at::Tensor aligned(const at::Tensor& x);

/// compute(block) for each block of kRowBlock rows of x [R, ...], filled up with zeros; the results
/// (a row for each of the block's) joined: [R, ...]. x has one row at least.
at::Tensor by_row_blocks(const at::Tensor& x,
                         const std::function<at::Tensor(const at::Tensor& block)>& compute);

}  // namespace dovetail
