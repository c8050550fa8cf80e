// What tests of layers on a GPU share: random data, segments in the form that kernels read, and
// comparisons that say where they failed.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/step/model.hpp"

namespace dovetail::test {

/// A new seed a call, printed; DOVETAIL_TEST_SEED sets the first.
std::uint64_t next_seed();

/// Normal, float32, rounded to bf16 and back, on the CPU: what both sides can start from.
at::Tensor random_bf16_values(const std::vector<std::int64_t>& shape,
                              std::mt19937_64& random,
                              double scale = 1);

/// As bfloat16 on the current GPU.
at::Tensor to_gpu(const at::Tensor& x);
at::Tensor to_gpu(const at::Tensor& x, at::ScalarType dtype);

/// The tensors of `segments`, which follow one another from row 0, and of `padding` empty ones
/// behind them. Bounds are exact.
SegmentTensors device_segments(const std::vector<AttentionSegment>& segments,
                               std::int64_t padding,
                               at::Device device);

/// Rows of -1 behind a block table.
at::Tensor with_padding_tables(const at::Tensor& tables, std::int64_t padding);

/// Empty where |got - wanted| <= relative * |wanted| + absolute everywhere (NaN never is), else how
/// many are off, and place, wanted and got of the first. Any devices and dtypes.
std::string difference(const at::Tensor& got,
                       const at::Tensor& wanted,
                       double relative,
                       double absolute);

/// As above with both 0; equal NaNs are equal.
std::string bitwise_difference(const at::Tensor& got, const at::Tensor& wanted);

/// Relative step of bfloat16: two neighbours differ by at most this.
inline constexpr double kBf16Step = 1.0 / 128;

/// Synchronises and throws on a CUDA error, so that a fault is found in the test that made it.
void check_gpu();

}  // namespace dovetail::test
