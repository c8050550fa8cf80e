// What a build without CUDA says where a GPU is asked for.
#include "framework/base/error.hpp"
#include "framework/step/cuda/gpu_device.hpp"
#include "framework/step/cuda/graph_bench.hpp"

namespace dovetail {

std::unique_ptr<GpuDevice> make_gpu_device(const Ranks& /*ranks*/, int /*ordinal*/) {
  throw InputError("this build has no CUDA; allowed for execution.device: auto, cpu");
}

std::vector<BenchResult> bench_graph(int /*num_layers*/, int /*num_samples*/) {
  throw InputError("bench graph needs a build with CUDA (preset cuda)");
}

}  // namespace dovetail
