// The gated feed-forward of dense layers and of shared experts.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layers/products.hpp"
#include "models/layers/swiglu.hpp"

namespace dovetail {

/// Rows are output features, as in a checkpoint.
struct MlpWeights {
  at::Tensor gate_up;  ///< [2 I, H]: gate_proj above up_proj
  at::Tensor down;     ///< [H, I]
};

/// down(silu(gate(x)) * up(x)): x [T, H] -> [T, H], new. batch_invariant: each row by itself.
inline at::Tensor gated_mlp(const MlpWeights& weights, const at::Tensor& x, Numerics numerics) {
  const at::Tensor gate_up = project(x, weights.gate_up, at::Tensor(), numerics);
  return project(swiglu(gate_up, numerics), weights.down, at::Tensor(), numerics);
}

}  // namespace dovetail
