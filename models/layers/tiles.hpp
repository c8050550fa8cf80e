// The unit of work of `numerics: batch_invariant`: a tile, which one thread computes. Where a
// library computes it (attention), its sizes follow from the layer's sizes and a row's place in its
// request alone: libraries choose kernels by all sizes of a call and by the number of threads, so a
// row's bits stay the same where every call that it can be part of has one shape and one thread.
// CPU tensors.
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// Calls compute(0) ... compute(count - 1): the threads that ATen may use share the calls, in no
/// order, and what a call computes with ATen runs in its one thread, also where there is one call
/// only. Rethrows what a call throws.
void for_each_tile(std::int64_t count, const std::function<void(std::int64_t)>& compute);

/// x, or a copy of it where x is not contiguous or not aligned as a new tensor is: a kernel's
/// choice may depend on that.
at::Tensor aligned(const at::Tensor& x);

}  // namespace dovetail
