// Engines that are alive beside each other: what each counts as its own, and the workspaces of
// libraries, which graphs of those that stay refer to.
#include "framework/step/cuda/engine_memory.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/cuda/device_binding.hpp"
#include "framework/cuda/graph_pool.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/mpi/groups.hpp"
#include "framework/step/cuda/gpu_device.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/tensor_bits.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

std::int64_t num_workspaces(cudaStream_t stream) {
  const auto& map = at::cuda::cublas_handle_stream_to_workspace().map;
  return std::count_if(map.begin(), map.end(), [&](const auto& entry) {
    return std::get<1>(entry.first) == stream;
  });
}

at::Tensor of_bytes(std::int64_t bytes) {
  return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(test::own_gpu()));
}

class EngineMemories : public ::testing::Test {
 protected:
  void SetUp() override {
    DOVETAIL_REQUIRE_GPU();
    gpu_ = make_gpu_device(ranks_, test::own_gpu().index());
  }

  std::unique_ptr<EngineMemory> make_engine() {
    return std::make_unique<EngineMemory>(*gpu_, test::own_gpu().index());
  }

  /// An engine that has two streams for itself, on which the main thread has multiplied.
  struct Engine {
    std::unique_ptr<EngineMemory> memory;
    std::array<c10::cuda::CUDAStream, 2> streams;

    std::int64_t num_workspaces() const {
      return dovetail::num_workspaces(streams[0]) + dovetail::num_workspaces(streams[1]);
    }
  };

  Engine make_engine_on(const std::array<c10::cuda::CUDAStream, 2>& streams) {
    Engine engine = {make_engine(), streams};
    engine.memory->own_workspaces({streams[0].stream(), streams[1].stream()});
    warm_up_blas(streams);
    gpu_->wait("a warm-up");
    return engine;
  }

  Engine make_engine_with_streams() {
    return make_engine_on(
        {c10::cuda::getStreamFromPool(false), c10::cuda::getStreamFromPool(true)});
  }

  RankGrid grid_ = make_grid(test::world_size(), 1);
  RankGroups groups_ = make_rank_groups(test::session(), grid_);
  Ranks ranks_ = {.session = test::session(),
                  .grid = grid_,
                  .groups = groups_,
                  .wait = {.timeout = std::chrono::seconds(20)}};
  std::unique_ptr<GpuDevice> gpu_;
};

TEST_F(EngineMemories, CountWhatAnEngineHoldsAndWhatPasses) {
  const auto shared = of_bytes(16 * kMiB);
  const auto engine = make_engine();
  const auto buffer = of_bytes(64 * kMiB);
  of_bytes(256 * kMiB);
  const auto memory = engine->end_turn();
  EXPECT_GE(memory.held, 64 * kMiB);
  EXPECT_LT(memory.held, 256 * kMiB);
  EXPECT_GE(memory.passing, 256 * kMiB);
  EXPECT_LT(memory.passing, 320 * kMiB);
  EXPECT_EQ(memory.filling, 0);
  EXPECT_GT(memory.free, 0);
  EXPECT_GT(memory.total, memory.free);
  engine->begin_turn();
  const auto more = of_bytes(32 * kMiB);
  const auto again = engine->end_turn();
  EXPECT_GE(again.held, 96 * kMiB);
  EXPECT_LT(again.passing, 64 * kMiB) << "of the last turn";
  EXPECT_LE(again.free, memory.free - 32 * kMiB);
}

/// What fills a context happens once, before the steps.
TEST_F(EngineMemories, CountFillingApart) {
  const auto engine = make_engine();
  of_bytes(256 * kMiB);
  engine->end_filling(8 * kMiB);
  of_bytes(32 * kMiB);
  EXPECT_LT(engine->peaks().allocated, 256 * kMiB);
  const auto memory = engine->end_turn();
  EXPECT_GE(memory.filling, 264 * kMiB);
  EXPECT_LT(memory.passing, 256 * kMiB);
}

/// A policy's peaks are those that it would have alone.
TEST_F(EngineMemories, LeaveOutWhatOthersHold) {
  const auto shared = of_bytes(16 * kMiB);
  const auto first = make_engine();
  const auto before = first->peaks().allocated;
  const auto of_first = of_bytes(64 * kMiB);
  first->end_turn();
  EXPECT_EQ(first->peaks().allocated - before, 64 * kMiB);
  {
    const auto second = make_engine();
    EXPECT_EQ(second->peaks().allocated, before);
    const auto of_second = of_bytes(128 * kMiB);
    EXPECT_EQ(second->peaks().allocated - before, 128 * kMiB);
    second->end_turn();
    first->begin_turn();
    EXPECT_EQ(first->peaks().allocated - before, 64 * kMiB);
    first->end_turn();
  }
  const auto third = make_engine();
  EXPECT_EQ(third->peaks().allocated, before) << "the second has gone";
  of_bytes(192 * kMiB);
  third->end_turn();
  third->begin_turn();
  EXPECT_EQ(third->peaks().allocated - before, 192 * kMiB) << "of the turn before";
}

TEST_F(EngineMemories, KeepTheWorkspacesOfThoseThatStay) {
  auto first = make_engine_with_streams();
  auto second = make_engine_with_streams();
  EXPECT_EQ(first.num_workspaces(), 2);
  EXPECT_EQ(second.num_workspaces(), 2);
  second.memory.reset();
  EXPECT_EQ(first.num_workspaces(), 2);
  EXPECT_EQ(second.num_workspaces(), 0);
  auto third = make_engine_with_streams();
  EXPECT_EQ(first.num_workspaces(), 2) << "one is alive";
  first.memory.reset();
  third.memory.reset();
  EXPECT_EQ(first.num_workspaces() + third.num_workspaces(), 0);
}

/// LibTorch's streams come in turn.
TEST_F(EngineMemories, OfOneStreamKeepItsWorkspaceForTheOther) {
  auto first = make_engine_with_streams();
  auto second = make_engine_on(first.streams);
  second.memory.reset();
  EXPECT_EQ(first.num_workspaces(), 2);
  first.memory.reset();
  EXPECT_EQ(first.num_workspaces(), 0);
}

/// A stream of a partition is of no engine: its graphs may be anybody's.
TEST_F(EngineMemories, KeepWorkspacesOfSharedStreamsWhileOneIsAlive) {
  const auto stream = c10::cuda::getStreamFromPool();
  const auto engine = make_engine();
  warm_up_blas(std::array<c10::cuda::CUDAStream, 1>{stream});
  gpu_->wait("a warm-up");
  auto other = make_engine();
  EXPECT_EQ(num_workspaces(stream), 1);
  other.reset();
  EXPECT_EQ(num_workspaces(stream), 1);
}

TEST_F(EngineMemories, DropAllWorkspacesWhereNoneIsAlive) {
  const auto stream = c10::cuda::getStreamFromPool();
  warm_up_blas(std::array<c10::cuda::CUDAStream, 1>{stream});
  gpu_->wait("a warm-up");
  EXPECT_EQ(num_workspaces(stream), 1);
  const auto engine = make_engine();
  EXPECT_EQ(num_workspaces(stream), 0);
}

/// A graph computes what it did once another engine has come and gone, and writes into nothing that
/// was allocated since.
TEST_F(EngineMemories, AGraphOfAnEngineThatStaysReplays) {
  const c10::InferenceMode inference;
  auto first = make_engine_with_streams();
  const auto stream = first.streams[0];
  const c10::cuda::CUDAStreamGuard guard(stream);
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(test::own_gpu());
  // So long sums are cut, and their parts added up in the workspace.
  const auto wide = at::full({64, 16384}, 0.5, options);
  const auto product = [&] { return at::mm(wide, wide.t()); };
  const auto expected = product().clone();
  gpu_->wait("an eager product");
  const GraphPool pool(stream.device_index());
  GraphMemory memory(pool, stream, stream);
  StreamCapture capture(stream, stream);
  const auto result = product();
  const Graph graph = capture.end();
  memory.stop_taking();
  const GraphExec exec(graph);
  exec.launch(stream);
  gpu_->wait("a replay");
  EXPECT_TRUE(result.equal(expected));
  first.memory->end_turn();
  {
    auto second = make_engine_with_streams();
    const c10::cuda::CUDAStreamGuard other(second.streams[0]);
    product();
    second.memory->end_turn();
  }
  first.memory->begin_turn();
  const auto since = of_bytes(512 * kMiB).fill_(0xff);
  result.zero_();
  exec.launch(stream);
  gpu_->wait("a replay");
  EXPECT_TRUE(result.equal(expected));
  EXPECT_TRUE(since.eq(0xff).all().item<bool>());
}

}  // namespace
}  // namespace dovetail
