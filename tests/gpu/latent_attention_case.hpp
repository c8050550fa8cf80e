// What the tests of the kernels of latent attention share. What a kernel may not read is NaN.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/tensor.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "models/layers/cuda/kernels.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kScale = 0.06F;
/// Of a row's relative error: shares and results are rounded, by 2^-9 of themselves at most.
inline constexpr double kBound = 0.005;

inline cudaStream_t stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

inline at::Tensor int32_on_gpu(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong).to(at::kInt).to(at::kCUDA);
}

/// 0, then the sums of the first, the first two, ... lengths.
inline std::vector<std::int64_t> starts_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> starts = {0};
  for (const std::int64_t length : lengths) {
    starts.push_back(starts.back() + length);
  }
  return starts;
}

/// The largest relative error of a row; NaN counts as infinite.
inline double row_error(const at::Tensor& got, const at::Tensor& wanted) {
  const at::Tensor errors = (got.to(at::kDouble) - wanted).norm(2, -1) / wanted.norm(2, -1);
  return at::nan_to_num(errors, std::numeric_limits<double>::infinity()).max().item<double>();
}

}  // namespace dovetail::test
