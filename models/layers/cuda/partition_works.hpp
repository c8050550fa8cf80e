// What `dovetail bench partition` computes beside an exchange.
#pragma once

#include <vector>

#include "framework/comm/exchange/bench/partition_bench.hpp"

namespace dovetail {

/// On the current GPU, in bfloat16, as the models do it: a product of 4096 x 4096 matrices, by
/// LibTorch, whose kernels size their grids by the SMs that are left to them; and attention of a
/// prefill of 4 x 4096 tokens, 128 heads of 192 and 128 (DeepSeek-V3), by an own kernel with a
/// block for each tile. Random inputs; 3 GB. Throws InputError in a build without CUDA.
std::vector<PartitionWork> partition_works();

}  // namespace dovetail
