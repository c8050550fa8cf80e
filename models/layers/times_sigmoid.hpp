// The gate of a shared expert.
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"

namespace dovetail {

/// Each row of x [T, H] times the sigmoid of its logit [T, 1] -> [T, H], new; the sigmoid is
/// rounded before. batch_invariant: each row by itself.
at::Tensor times_sigmoid(const at::Tensor& x, const at::Tensor& logits, Numerics numerics);

}  // namespace dovetail
