#include "models/layers/mlp.hpp"

#include <ATen/ops/linear.h>

#include "models/layers/swiglu.hpp"

namespace dovetail {

at::Tensor gated_mlp(const MlpWeights& weights, const at::Tensor& x) {
  return at::linear(swiglu(at::linear(x, weights.gate_up)), weights.down);
}

}  // namespace dovetail
