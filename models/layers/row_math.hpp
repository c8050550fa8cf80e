// The layers between the products on the CPU under `numerics: batch_invariant`: plain loops over
// rows, each a function of its row alone. ATen's vectorised loops are none: which elements they
// compute with vector functions and which with scalar ones, that round otherwise, depends on where
// threads cut a tensor. They round where the functions of the same names in models/layers round,
// and take float32, bfloat16 and float16.
#pragma once

#include <ATen/core/Tensor.h>

namespace dovetail::row_math {

/// See rms_norm.hpp. Squares are added up in double.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

/// factor * cos and factor * sin of angles [T, n] float32 -> [2, T, n] in `dtype`.
at::Tensor cos_and_sin(const at::Tensor& angles, double factor, at::ScalarType dtype);

/// See rotary.hpp.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& table);

/// See swiglu.hpp.
at::Tensor swiglu(const at::Tensor& gate_up);

/// See times_sigmoid.hpp.
at::Tensor times_sigmoid(const at::Tensor& x, const at::Tensor& logits);

/// The softmax of logits [T, experts] float32 at expert_ids [T, k] int64 within the row: [T, k]
/// float32. Sums are in double.
at::Tensor chosen_probabilities(const at::Tensor& logits, const at::Tensor& expert_ids);

/// x / (sum of its row), x [T, k] float32. Sums are in double.
at::Tensor normalized(const at::Tensor& x);

/// 1 / (1 + exp(-x)), x [T, n] float32.
at::Tensor sigmoid(const at::Tensor& x);

}  // namespace dovetail::row_math
