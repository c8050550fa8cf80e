#include "models/layers/experts.hpp"

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/products.hpp"
#include "models/layers/swiglu.hpp"

namespace dovetail {
namespace {

/// output[r] = weight[expert of row r] @ input[r]; weight [E_local, out, in].
void grouped_gemm(const at::Tensor& input,
                  const at::Tensor& weight,
                  std::span<const std::int32_t> ends,
                  at::Tensor& output,
                  Numerics numerics) {
  std::vector<RowProduct> products;
  std::int64_t begin = 0;
  for (std::size_t expert = 0; expert < ends.size(); ++expert) {
    const std::int64_t count = ends[expert] - begin;
    if (count > 0) {
      products.push_back({.x = input.narrow(0, begin, count),
                          .weight = weight.select(0, static_cast<std::int64_t>(expert)),
                          .bias = {},
                          .result = output.narrow(0, begin, count)});
    }
    begin = ends[expert];
  }
  if (numerics == Numerics::batch_invariant) {
    multiply_by_rows(products);
    return;
  }
  for (RowProduct& product : products) {
    at::mm_out(product.result, product.x, product.weight.t());
  }
}

/// `offsets` on the host. The rows are a buffer that may be longer on a GPU.
std::span<const std::int32_t> ends_of(const at::Tensor& offsets,
                                      const ExpertRows& rows,
                                      std::int64_t num_experts) {
  DOVETAIL_CHECK_EQ(offsets.numel(), num_experts);
  const std::span<const std::int32_t> ends(offsets.const_data_ptr<std::int32_t>(),
                                           static_cast<std::size_t>(num_experts));
  if (rows.rows.is_cuda()) {
    DOVETAIL_CHECK(rows.rows.size(0) >= ends.back(), "offsets behind the end of the rows");
  } else {
    DOVETAIL_CHECK_EQ(rows.rows.size(0), ends.back());
  }
  return ends;
}

}  // namespace

at::Tensor run_experts(const ExpertWeights& all, const ExpertRows& rows, Numerics numerics) {
  const auto of_group = [&](const at::Tensor& weight) {
    return weight.narrow(0, rows.first_expert, rows.offsets.numel());
  };
  const ExpertWeights weights = {.gate_up = of_group(all.gate_up), .down = of_group(all.down)};
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(rows.rows)) {
      return gpu::run_experts(weights, rows);
    }
  }
  const at::Tensor offsets = rows.offsets.cpu();  // the same tensor on the CPU
  const auto ends = ends_of(offsets, rows, weights.down.size(0));
  at::Tensor gate_up = at::empty({rows.rows.size(0), weights.gate_up.size(1)}, rows.rows.options());
  grouped_gemm(rows.rows, weights.gate_up, ends, gate_up, numerics);
  at::Tensor output = at::empty_like(rows.rows);
  grouped_gemm(swiglu(gate_up, numerics), weights.down, ends, output, numerics);
  return output;
}

}  // namespace dovetail
