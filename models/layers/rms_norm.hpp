// Root-mean-square norm (Zhang and Sennrich, arXiv:1910.07467).
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"

namespace dovetail {

/// weight * x / sqrt(mean(x^2) + epsilon) over the last dimension. x [..., D], weight [D], one
/// dtype; computed in float32, rounded to that dtype before the weight is applied. Returns a new
/// contiguous tensor. batch_invariant: each row by itself.
at::Tensor rms_norm(const at::Tensor& x,
                    const at::Tensor& weight,
                    double epsilon,
                    Numerics numerics = Numerics::fast);

}  // namespace dovetail
