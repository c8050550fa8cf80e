#include "models/layers/swiglu.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>

#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_math.hpp"

namespace dovetail {

at::Tensor swiglu(const at::Tensor& gate_up, Numerics numerics) {
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(gate_up) && gpu::can_swiglu(gate_up)) {
      return gpu::swiglu(gate_up, nullptr);
    }
  }
  if (numerics == Numerics::batch_invariant && gate_up.is_cpu()) {
    return row_math::swiglu(gate_up);
  }
  const std::int64_t size = gate_up.size(1) / 2;
  at::Tensor result = at::empty({gate_up.size(0), size}, gate_up.options());
  return at::silu_out(result, gate_up.narrow(1, 0, size)).mul_(gate_up.narrow(1, size, size));
}

}  // namespace dovetail
