// Kernels of the two streams of a cut device keep to their SMs, eagerly and in graphs; those of
// ordinary streams do not.
#include "framework/cuda/green_partition.hpp"

#include <algorithm>
#include <iterator>
#include <set>
#include <vector>

#include <ATen/ops/ones.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/event.hpp"
#include "framework/cuda/graph.hpp"
#include "framework/cuda/num_sms.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/sm_probe_result.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kSpinNs = 50'000;

/// Probes on both streams at once, each with blocks enough for all SMs, and what they have seen.
class TwoProbes {
 public:
  TwoProbes(cudaStream_t compute, cudaStream_t comm)
      : compute_(compute), comm_(comm), fork_(Event::Kind::order), join_(Event::Kind::order) {}

  void run_eagerly() {
    forget();
    enqueue();
    ASSERT_EQ(cudaStreamSynchronize(compute_), cudaSuccess);  // which waits for comm
    expect_whole();
  }

  /// Captured once, launched twice on `launcher`.
  void run_in_a_graph(cudaStream_t launcher) {
    forget();
    StreamCapture capture(compute_, comm_);
    enqueue();
    const Graph graph = capture.end();
    const GraphExec exec(graph);
    for (int replay = 0; replay < 2; ++replay) {
      forget();
      exec.launch(launcher);
      ASSERT_EQ(cudaStreamSynchronize(launcher), cudaSuccess);
      expect_whole();
    }
  }

  std::set<int> compute_sms() const { return of_compute_.sms(); }

  std::set<int> comm_sms() const { return of_comm_.sms(); }

  std::set<int> shared_sms() const {
    const auto a = compute_sms();
    const auto b = comm_sms();
    std::set<int> both;
    std::ranges::set_intersection(a, b, std::inserter(both, both.end()));
    return both;
  }

 private:
  static int num_blocks() { return 8 * num_sms(); }

  void forget() {
    of_compute_.forget();
    of_comm_.forget();
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  void enqueue() {
    fork_.record(compute_);
    fork_.hold(comm_);
    launch_sm_probe(of_compute_.probe(), num_blocks(), kSpinNs, compute_);
    launch_sm_probe(of_comm_.probe(), num_blocks(), kSpinNs, comm_);
    join_.record(comm_);
    join_.hold(compute_);
  }

  void expect_whole() const {
    EXPECT_EQ(of_compute_.num_blocks(), num_blocks());
    EXPECT_EQ(of_comm_.num_blocks(), num_blocks());
  }

  cudaStream_t compute_;
  cudaStream_t comm_;
  Event fork_;
  Event join_;
  SmProbeResult of_compute_;
  SmProbeResult of_comm_;
};

void expect_cut(const TwoProbes& probes, const SmSplit& sms) {
  EXPECT_EQ(std::ssize(probes.compute_sms()), sms.compute_sms);
  EXPECT_EQ(std::ssize(probes.comm_sms()), sms.comm_sms);
  EXPECT_EQ(std::ssize(probes.shared_sms()), 0);
}

TEST(GreenPartition, StreamsKeepToTheirSms) {
  DOVETAIL_REQUIRE_GPU();
  for (const int comm_sms : {8, 16, 32, 64}) {
    const GreenPartition partition(comm_sms);
    SCOPED_TRACE(std::to_string(comm_sms) +
                 " comm SMs: " + std::to_string(partition.sms().comm_sms) + " and " +
                 std::to_string(partition.sms().compute_sms));
    EXPECT_EQ(partition.sms().comm_sms, comm_sms);
    EXPECT_EQ(partition.sms().comm_sms + partition.sms().compute_sms, num_sms());
    TwoProbes probes(partition.compute_stream(), partition.comm_stream());
    probes.run_eagerly();
    expect_cut(probes, partition.sms());
    probes.run_in_a_graph(partition.compute_stream());
    expect_cut(probes, partition.sms());
    probes.run_in_a_graph(c10::cuda::getStreamFromPool());
    expect_cut(probes, partition.sms());
  }
}

/// The twin: what the test looks at does not come by itself.
TEST(GreenPartition, OrdinaryStreamsShareSms) {
  DOVETAIL_REQUIRE_GPU();
  TwoProbes probes(c10::cuda::getStreamFromPool(false), c10::cuda::getStreamFromPool(true));
  probes.run_eagerly();
  EXPECT_EQ(std::ssize(probes.compute_sms()), num_sms());
  EXPECT_EQ(std::ssize(probes.shared_sms()), num_sms());
  probes.run_in_a_graph(c10::cuda::getStreamFromPool());
  EXPECT_EQ(std::ssize(probes.shared_sms()), num_sms());
}

TEST(GreenPartition, PrioritiesAndRounding) {
  DOVETAIL_REQUIRE_GPU();
  const GreenPartition partition(9);
  EXPECT_EQ(partition.sms().comm_sms, 16);
  int compute = 0;
  int comm = 0;
  ASSERT_EQ(cudaStreamGetPriority(partition.compute_stream(), &compute), cudaSuccess);
  ASSERT_EQ(cudaStreamGetPriority(partition.comm_stream(), &comm), cudaSuccess);
  EXPECT_LT(comm, compute) << "the smaller number is the higher priority";
}

TEST(GreenPartition, WaitsForBothOfItsStreams) {
  DOVETAIL_REQUIRE_GPU();
  const GreenPartition partition(8);
  const SmProbeResult result;
  for (const auto& stream : {partition.compute_stream(), partition.comm_stream()}) {
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    launch_sm_probe(result.probe(), 1, 50'000'000, stream);
    EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
    partition.wait("a test");
    EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  }
}

TEST(GreenPartition, RefusesWhatTheDeviceCannotCut) {
  DOVETAIL_REQUIRE_GPU();
  for (const int comm_sms : {-1, 0, 4, 130, 100'000}) {
    EXPECT_THROW(GreenPartition{comm_sms}, InputError) << comm_sms;
  }
}

/// LibTorch's own work runs there; a moved partition is the same one; many come and go.
TEST(GreenPartition, ServesLibTorchAndCanBeMadeAgain) {
  DOVETAIL_REQUIRE_GPU();
  for (int i = 0; i < 20; ++i) {
    GreenPartition first(16);
    GreenPartition partition(8);
    const cudaStream_t stream = first.compute_stream();
    partition = std::move(first);
    EXPECT_EQ(partition.compute_stream().stream(), stream);
    EXPECT_EQ(partition.sms().comm_sms, 16);
    const c10::cuda::CUDAStreamGuard guard(partition.compute_stream());
    const auto matrix =
        at::ones({512, 512}, at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16));
    EXPECT_EQ(matrix.matmul(matrix).sum().item<double>(), 512.0 * 512.0 * 512.0);
  }
}

}  // namespace
}  // namespace dovetail::test
