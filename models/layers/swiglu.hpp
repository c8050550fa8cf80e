// The gate of SwiGLU feed-forward layers (Shazeer, arXiv:2002.05202).
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"

namespace dovetail {

/// silu(gate) * up for gate_up [T, 2 I] = gate beside up -> [T, I], new and contiguous.
/// batch_invariant: each row by itself.
at::Tensor swiglu(const at::Tensor& gate_up, Numerics numerics = Numerics::fast);

}  // namespace dovetail
