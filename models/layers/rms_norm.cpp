#include "models/layers/rms_norm.hpp"

#include <ATen/ops/mean.h>
#include <ATen/ops/mul.h>

#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_math.hpp"

namespace dovetail {

namespace {

at::Tensor norm_rows(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale =
      at::mean(at::mul(wide, wide), /*dim=*/-1, /*keepdim=*/true).add_(epsilon).rsqrt_();
  return at::mul(wide, scale).to(x.scalar_type()).mul_(weight);
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x,
                    const at::Tensor& weight,
                    double epsilon,
                    Numerics numerics) {
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(x) && gpu::can_norm(x, weight)) {
      return gpu::rms_norm(x, weight, epsilon);
    }
  }
  return numerics == Numerics::fast || x.numel() == 0 ? norm_rows(x, weight, epsilon)
                                                      : row_math::rms_norm(x, weight, epsilon);
}

}  // namespace dovetail
