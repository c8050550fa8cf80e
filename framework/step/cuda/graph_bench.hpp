// What `dovetail bench graph` measures: captures, and replays against eager steps.
#pragma once

#include <vector>

#include "framework/exec/bench.hpp"

namespace dovetail {

/// A synthetic step of `num_layers` layers of tiny kernels, under `sequential` and `dual_batch`
/// with two ubatches, on the first GPU: capture, instantiate (upload included), launch by the
/// host, eager steps, piecewise and full replays in ns per kernel, and what recording the times of
/// ops adds to a full replay, by events and by time stamps. Throws InputError in a build
/// without CUDA and on a machine without a GPU.
std::vector<BenchResult> bench_graph(int num_layers = 24, int num_samples = 200);

}  // namespace dovetail
