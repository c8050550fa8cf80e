// The grids of what runs on the compute lane, read from captured graphs: who leaves SMs to the
// exchange under an SmPartition, and who does not.
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/cuda/device_binding.hpp"
#include "framework/cuda/graph.hpp"
#include "framework/cuda/graph_pool.hpp"
#include "framework/cuda/graph_shape.hpp"
#include "framework/cuda/num_sms.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/layers.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

constexpr int kLeftOut = 32;

at::TensorOptions bf16() {
  return at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
}

struct Launch {
  std::string kernel;
  KernelGrid grid;
};

using Work = std::function<at::Tensor()>;

class KernelGrids : public ::testing::Test {
 protected:
  void SetUp() override {
    DOVETAIL_REQUIRE_GPU();
    at::globalContext().setBlasPreferredBackend(at::BlasBackend::Cublaslt);
  }

  /// The kernels of `work`, captured with `left_out` SMs left to the exchange. What a replay
  /// returns is compared to the bit with what `work` returns eagerly where all SMs are its own.
  static std::vector<Launch> launches(const Work& work, int left_out) {
    const c10::InferenceMode inference;
    const auto stream = c10::cuda::getStreamFromPool();
    const c10::cuda::CUDAStreamGuard guard(stream);
    const std::array<c10::cuda::CUDAStream, 1> streams = {stream};
    warm_up_blas(streams);
    const at::Tensor expected = work().clone();
    const SmPartition partition(left_out);
    work();  // eagerly first, as ahead of each capture
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    GraphPool pool(stream.device_index());
    GraphMemory memory(pool, stream, stream);
    StreamCapture capture(stream, stream);
    const at::Tensor result = work();
    const Graph graph = capture.end();
    memory.stop_taking();
    const GraphExec exec(graph);
    exec.launch(stream);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_TRUE(expected.equal(result)) << "other bits with " << left_out << " SMs left out";
    std::vector<Launch> found;
    for (const auto& node : inspect(graph.raw()).nodes) {
      if (node.type == cudaGraphNodeTypeKernel) {
        found.push_back({.kernel = node.function, .grid = grid_of(node)});
      }
    }
    return found;
  }

  static void print(const std::string& what, int left_out, const std::vector<Launch>& found) {
    for (const auto& launch : found) {
      std::printf("%s, %d SMs left out: %lld blocks of %d threads, %d bytes, %.60s\n",
                  what.c_str(),
                  left_out,
                  static_cast<long long>(launch.grid.blocks),
                  launch.grid.threads,
                  launch.grid.shared_bytes,
                  launch.kernel.c_str());
    }
  }

  /// Blocks of the kernel that has most.
  static std::int64_t most_blocks(const std::vector<Launch>& found) {
    std::int64_t most = 0;
    for (const auto& launch : found) {
      most = std::max(most, launch.grid.blocks);
    }
    return most;
  }

  /// With all SMs `work` has more blocks than `blocks_per_sm` on all but kLeftOut SMs would be, so
  /// that there is something to see; with SMs left out it has at most that many.
  static void expect_honours(const std::string& what, const Work& work, int blocks_per_sm) {
    const auto all = launches(work, 0);
    const auto some = launches(work, kLeftOut);
    print(what, 0, all);
    print(what, kLeftOut, some);
    const std::int64_t room = std::int64_t{num_sms() - kLeftOut} * blocks_per_sm;
    EXPECT_GT(most_blocks(all), room) << what;
    EXPECT_LE(most_blocks(some), room) << what;
  }

  /// One block a tile, whatever is left out: the test that the list in sm_partition.hpp is true.
  static void expect_ignores(const std::string& what, const Work& work) {
    const auto all = launches(work, 0);
    const auto some = launches(work, kLeftOut);
    print(what, 0, all);
    print(what, kLeftOut, some);
    ASSERT_EQ(all.size(), some.size()) << what;
    EXPECT_GT(most_blocks(all), 0) << what;
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].grid.blocks, some[i].grid.blocks) << what << ": " << all[i].kernel;
    }
  }
};

TEST_F(KernelGrids, Products) {
  const at::Tensor x = at::randn({8192, 2048}, bf16());
  const at::Tensor weight = at::randn({5120, 2048}, bf16());
  expect_honours(
      "product", [&] { return at::linear(x, weight); }, 1);
}

TEST_F(KernelGrids, ProductsToFloat32) {
  const at::Tensor x = at::randn({8192, 2048}, bf16());
  const at::Tensor weight = at::randn({5120, 2048}, bf16());
  expect_honours(
      "product to float32", [&] { return gpu::project_to_float32(x, weight, Numerics::fast); }, 1);
}

TEST_F(KernelGrids, GroupedProducts) {
  constexpr std::int64_t experts = 16;
  const at::Tensor x = at::randn({experts * 512, 2048}, bf16());
  const at::Tensor weight = at::randn({experts, 1536, 2048}, bf16());
  const at::Tensor ends = at::arange(512, 512 * experts + 1, 512, bf16().dtype(at::kInt));
  expect_honours(
      "grouped product", [&] { return at::_grouped_mm(x, weight.transpose(1, 2), ends); }, 1);
}

TEST_F(KernelGrids, Activations) {
  const at::Tensor gate_up = at::randn({16384, 1536}, bf16());
  const at::Tensor end = at::full({1}, 16000, bf16().dtype(at::kInt));
  constexpr int resident = 8;  // of 256 threads on an SM
  expect_honours(
      "swiglu",
      [&] { return gpu::swiglu(gate_up, end.const_data_ptr<std::int32_t>()).narrow(0, 0, 16000); },
      resident);
}

TEST_F(KernelGrids, DecodeOverLatents) {
  constexpr std::int64_t requests = 192;
  constexpr std::int64_t heads = 128;
  constexpr std::int64_t length = 64;
  const auto int32 = bf16().dtype(at::kInt);
  const at::Tensor queries = at::randn({requests, heads, gpu::kLatentKeyDim}, bf16());
  const at::Tensor latents = at::randn({requests, length, gpu::kLatentKeyDim}, bf16());
  const at::Tensor starts = at::arange(requests + 1, int32);
  const at::Tensor lengths = at::full({requests}, length, int32);
  expect_honours(
      "decode over latents",
      [&] {
        at::Tensor result = at::empty({requests, heads, gpu::kLatentValueDim}, bf16());
        gpu::launch_latent_decode(
            {.queries = {.latent = queries.const_data_ptr(),
                         .latent_token_stride = queries.stride(0),
                         .latent_head_stride = queries.stride(1),
                         .rope = queries.narrow(2, gpu::kLatentValueDim, 64).const_data_ptr(),
                         .rope_token_stride = queries.stride(0),
                         .rope_head_stride = queries.stride(1)},
             .result = result.mutable_data_ptr(),
             .result_token_stride = result.stride(0),
             .result_head_stride = result.stride(1),
             .tokens = requests,
             .heads = heads,
             .latents = latents.const_data_ptr(),
             .page_size = length,
             .segments = {.query_starts = starts.const_data_ptr<std::int32_t>(),
                          .key_lengths = lengths.const_data_ptr<std::int32_t>(),
                          .block_tables = starts.const_data_ptr<std::int32_t>(),
                          .table_stride = 1,
                          .count = requests},
             .scale = 0.06F,
             .num_sms = SmPartition::sms_to_compute()},
            c10::cuda::getCurrentCUDAStream());
        return result;
      },
      1);
}

gpu::AttentionRows rows_of(const at::Tensor& x) {
  return {.data = x.const_data_ptr(), .token_stride = x.stride(0), .head_stride = x.stride(1)};
}

TEST_F(KernelGrids, AttentionOfPrefillTakesAllSms) {
  constexpr std::int64_t length = 2048;
  const at::Tensor queries = at::randn({2 * length, 16, 128}, bf16());
  const at::Tensor keys = at::randn({2 * length, 4, 128}, bf16());
  const at::Tensor values = at::randn({2 * length, 4, 128}, bf16());
  const at::Tensor starts = at::arange(0, 2 * length + 1, length, bf16().dtype(at::kInt));
  expect_ignores("attention of prefill", [&] {
    at::Tensor result = at::empty({2 * length, 16, gpu::kPrefillValueDim}, bf16());
    gpu::launch_prefill_attention({.queries = rows_of(queries),
                                   .keys = rows_of(keys),
                                   .values = rows_of(values),
                                   .result = result.mutable_data_ptr(),
                                   .heads = 16,
                                   .kv_heads = 4,
                                   .query_starts = starts.const_data_ptr<std::int32_t>(),
                                   .key_starts = starts.const_data_ptr<std::int32_t>(),
                                   .segments = 2,
                                   .max_query_length = length,
                                   .scale = 0.09F},
                                  c10::cuda::getCurrentCUDAStream());
    return result;
  });
}

TEST_F(KernelGrids, NormsTakeAllSms) {
  const at::Tensor x = at::randn({8192, 2048}, bf16());
  const at::Tensor weight = at::randn({2048}, bf16());
  expect_ignores("rms norm", [&] { return gpu::rms_norm(x, weight, 1e-6); });
}

}  // namespace
}  // namespace dovetail::test
