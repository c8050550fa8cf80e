#include "models/layers/rms_norm.hpp"

#include <ATen/ops/mean.h>
#include <ATen/ops/mul.h>

#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_math.hpp"
#include "models/layers/tiles.hpp"

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
  if (numerics == Numerics::fast || x.numel() == 0) {
    return norm_rows(x, weight, epsilon);
  }
  if (x.is_cpu()) {
    return row_math::rms_norm(x, weight, epsilon);
  }
  // How a GPU's sum of a row is cut depends on the number of rows.
  return by_row_blocks(x.reshape({-1, x.size(-1)}),
                       [&](const at::Tensor& block) { return norm_rows(block, weight, epsilon); })
      .view(x.sizes());
}

}  // namespace dovetail
