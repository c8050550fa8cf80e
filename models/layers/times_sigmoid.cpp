#include "models/layers/times_sigmoid.hpp"

#include <ATen/ops/mul.h>
#include <ATen/ops/sigmoid.h>

#include "models/layers/row_math.hpp"

namespace dovetail {

at::Tensor times_sigmoid(const at::Tensor& x, const at::Tensor& logits, Numerics numerics) {
  return numerics == Numerics::batch_invariant && x.is_cpu() ? row_math::times_sigmoid(x, logits)
                                                             : at::mul(x, at::sigmoid(logits));
}

}  // namespace dovetail
