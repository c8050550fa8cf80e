// The dense matrix products of the layers, by a policy's numerics.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"

namespace dovetail {

/// x [R, in] weight [out, in]^T (+ bias [out]; undefined = none) -> [R, out], new; one dtype,
/// accumulated in float32 and rounded once.
/// batch_invariant: a row's bits depend on that row and the weights alone. In bfloat16 on a GPU a
/// bias is added behind the rounding, and rounded again.
at::Tensor project(const at::Tensor& x,
                   const at::Tensor& weight,
                   const at::Tensor& bias,
                   Numerics numerics);

/// x [R, in] weight [out, in]^T -> [R, out] float32, new; one dtype, that of `project`'s operands.
/// Nothing is rounded to that dtype: products of bfloat16 are exact in float32, and so are their
/// sums but for its own rounding. Of float32 operands it is `project`.
/// batch_invariant: as in `project`; in bfloat16 on a GPU by calls of one number of rows: slow.
at::Tensor project_to_float32(const at::Tensor& x, const at::Tensor& weight, Numerics numerics);

/// One product of several that have nothing to do with one another.
struct RowProduct {
  at::Tensor x;       ///< [R, in], R >= 0
  at::Tensor weight;  ///< [out, in]
  at::Tensor bias;    ///< [out], or undefined
  at::Tensor result;  ///< [R, out]; written; the rows' elements are neighbours
};

/// The products of one device, rounded once: a row's bits depend on that row and the weight alone.
/// On the CPU by dot products (row_dots.hpp), on a GPU by calls of one number of rows: slow.
void multiply_by_rows(std::vector<RowProduct> products);

}  // namespace dovetail
