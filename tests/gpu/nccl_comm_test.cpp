// The communicator's bounds and errors, and the check of the library that is loaded.
#include "framework/comm/nccl/nccl_comm.hpp"

#include <chrono>
#include <string>

#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/graph.hpp"
#include "framework/cuda/nccl_version.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/mpi/check.hpp"
#include "framework/mpi/collectives.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

std::string refusal(const NcclLibrary& library) {
  try {
    check_nccl(library);
  } catch (const RunError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(NcclLibraryCheck, NamesBothVersionsAndAllPaths) {
  EXPECT_EQ(refusal({.compiled = 22809, .loaded = 22809, .paths = {"/a/libnccl.so.2"}}),
            "accepted");
  EXPECT_EQ(refusal({.compiled = 22809, .loaded = 22803, .paths = {"/a/libnccl.so.2"}}),
            "NCCL 2.28.3 is loaded, but this program is compiled for 2.28.9; refused. Loaded from "
            "/a/libnccl.so.2");
  EXPECT_EQ(
      refusal(
          {.compiled = 22809, .loaded = 22809, .paths = {"/a/libnccl.so.2", "/b/libnccl.so.2"}}),
      "more than one NCCL is loaded; refused: /a/libnccl.so.2, /b/libnccl.so.2");
}

TEST(NcclLibraryCheck, FindsEachMappedFileOnce) {
  const auto paths = nccl_paths(
      "7f00-7f01 r--p 00000000 08:01 12 /opt/x/libnccl.so.2\n"
      "7f01-7f02 r-xp 00001000 08:01 12 /opt/x/libnccl.so.2\n"
      "7f03-7f04 r-xp 00001000 08:01 13 /opt/libnccl.so.9/libother.so\n"
      "7f05-7f06 rw-p 00000000 00:00 0 [heap]\n"
      "7f07-7f08 r-xp 00001000 08:01 14 /usr/lib/libnccl.so.2.28.3");
  EXPECT_EQ(paths, (std::vector<std::string>{"/opt/x/libnccl.so.2", "/usr/lib/libnccl.so.2.28.3"}));
}

// Needs no GPU: what this program was linked with.
TEST(NcclLibraryCheck, ThisProcessHasOneOfTheRightVersion) {
  const auto library = find_nccl();
  EXPECT_EQ(library.paths.size(), 1U) << describe(library);
  EXPECT_EQ(refusal(library), "accepted");
}

TEST(NcclCommunicator, BroadcastsAndCounts) {
  DOVETAIL_REQUIRE_GPU();
  const MpiComm world = session().world();
  NcclComm comm(world, {.max_ctas = 4, .name = "broadcast"}, {});
  EXPECT_EQ(comm.rank(), world.rank());
  EXPECT_EQ(comm.size(), world.size());
  for (const std::int64_t size : {0, 1, 1000003}) {
    const auto tensor = to_gpu(at::full({size}, 7 + world.rank(), at::kInt));
    comm.broadcast(tensor, world.size() - 1, {});
    EXPECT_TRUE(tensor.cpu().equal(at::full({size}, 7 + world.size() - 1, at::kInt)))
        << "size " << size;
  }
  EXPECT_NO_THROW(comm.check_async());
  NcclComm moved(std::move(comm));
  EXPECT_EQ(moved.size(), world.size());
}

TEST(NcclCommunicator, RefusesCallsAfterAnAbort) {
  DOVETAIL_REQUIRE_GPU();
  const MpiComm world = session().world();
  NcclComm comm(world, {.max_ctas = 4, .name = "aborted"}, {});
  comm.abort();
  comm.abort();
  EXPECT_THROW(comm.check_async(), RunError);
  EXPECT_THROW(comm.settle({}, "test"), RunError);
  EXPECT_THROW(comm.call([](ncclComm_t) { return ncclSuccess; }, {}, "test"), RunError);
}

TEST(NcclCommunicator, SetUpEndsWhereARankDoesNotCome) {
  DOVETAIL_REQUIRE_GPU();
  const MpiComm world = session().world();
  if (world.size() == 1) {
    GTEST_SKIP() << "needs two ranks";
  }
  const MpiComm ranks = MpiComm::duplicate(world.raw());
  WaitPolicy wait;
  wait.timeout = std::chrono::seconds(3);
  if (world.rank() != world.size() - 1) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THROW(NcclComm(ranks, {.max_ctas = 4, .name = "incomplete"}, wait), TimeoutError);
    // Generous: what counts is that it ends.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  } else {
    std::string id;  // takes the unique id, and nothing more
    broadcast_text(ranks, id, wait);
    EXPECT_EQ(id.size(), sizeof(ncclUniqueId));
  }
  DOVETAIL_MPI(MPI_Barrier(world.raw()));
}

/// What a step that has timed out looks like: a replayed transfer waits for a peer that does not
/// come, and the graph is still there.
TEST(NcclCommunicator, AnAbortEndsAReplayedTransferWhileItsGraphIsAlive) {
  DOVETAIL_REQUIRE_GPU();
  const MpiComm world = session().world();
  if (world.size() == 1) {
    GTEST_SKIP() << "needs two ranks";
  }
  const auto stream = c10::cuda::getStreamFromPool();
  const c10::cuda::CUDAStreamGuard on_stream(stream);
  const std::int64_t count = 1 << 16;
  const auto tensor = to_gpu(at::full({count}, 1 + world.rank(), at::kInt));
  NcclComm comm(world, {.max_ctas = 4, .name = "abandoned"}, {});
  const auto sum_up = [&] {
    comm.call(
        [&](ncclComm_t raw) {
          auto* data = tensor.mutable_data_ptr();
          return ncclAllReduce(data, data, count, ncclInt32, ncclSum, raw, stream.stream());
        },
        {},
        "sum");
  };
  sum_up();  // connects the ranks, which a capture must not
  check_cuda(cudaStreamSynchronize(stream.stream()), "cudaStreamSynchronize");
  Graph graph;
  {
    StreamCapture capture(stream.stream(), stream.stream());
    sum_up();
    graph = capture.end();
  }
  const GraphExec exec(graph);
  if (world.rank() == 0) {
    exec.launch(stream.stream());
    const auto start = std::chrono::steady_clock::now();
    comm.abort();
    while (cudaStreamQuery(stream.stream()) == cudaErrorNotReady &&
           std::chrono::steady_clock::now() - start < std::chrono::seconds(30)) {
      static_cast<void>(cudaGetLastError());
    }
    // Generous: what counts is that it ends.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    static_cast<void>(cudaGetLastError());
  }
  DOVETAIL_MPI(MPI_Barrier(world.raw()));
  comm.abort();
  EXPECT_THROW(comm.check_async(), RunError);
}

}  // namespace
}  // namespace dovetail::test
