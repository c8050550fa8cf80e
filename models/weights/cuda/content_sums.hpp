// Sums of hashed words of contents in GPU memory: what digests are made of.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// For each content the sum (mod 2^64) of hash_word(starts[i], index, word) over its words, as on
/// the CPU. All contents contiguous, any type and alignment, on one GPU. Enqueued on its current
/// stream, one kernel a content; waits for the results.
std::vector<std::uint64_t> content_sums_on_gpu(const std::vector<std::uint64_t>& starts,
                                               const std::vector<at::Tensor>& contents);

}  // namespace dovetail
