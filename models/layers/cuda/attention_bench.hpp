// What `dovetail bench attention` measures: the attention kernels beside what a GPU can do at most.
#pragma once

#include <vector>

#include "framework/exec/bench.hpp"

namespace dovetail {

/// On the first GPU, in bfloat16, of published models' heads:
/// - prefill (causal): TFLOP/s, beside LibTorch's flash attention and a product of 8192 x 8192
///   matrices. Where values are shorter than keys, flash attention gets them padded.
/// - decode over latents: TB/s of the latents, and TFLOP/s, beside a copy on the device (bytes read
///   and written).
/// Throws InputError in a build without CUDA and on a machine without a GPU.
std::vector<BenchResult> bench_attention(int num_samples = 50);

}  // namespace dovetail
