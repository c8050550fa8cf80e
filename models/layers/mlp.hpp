// The gated feed-forward of dense layers and of shared experts.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/linear.h>

#include "models/layers/swiglu.hpp"

namespace dovetail {

/// Rows are output features, as in a checkpoint.
struct MlpWeights {
  at::Tensor gate_up;  ///< [2 I, H]: gate_proj above up_proj
  at::Tensor down;     ///< [H, I]
};

/// down(silu(gate(x)) * up(x)): x [T, H] -> [T, H], new.
inline at::Tensor gated_mlp(const MlpWeights& weights, const at::Tensor& x) {
  return at::linear(swiglu(at::linear(x, weights.gate_up)), weights.down);
}

}  // namespace dovetail
