// A kernel of the comm lane starts while the compute lane still has blocks waiting for an SM: the
// lanes' priorities at work, eagerly and in a graph.
#include <cstdio>

#include <gtest/gtest.h>

#include "framework/cuda/event.hpp"
#include "framework/cuda/graph.hpp"
#include "framework/cuda/num_sms.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/step/cuda/step_runner.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/gpu/sm_probe_result.hpp"

namespace dovetail::test {
namespace {

/// The compute lane gets blocks for 100 rounds of all SMs; the comm lane a kernel that may start
/// when the first of them are running.
class FilledLanes {
 public:
  FilledLanes(cudaStream_t compute, cudaStream_t comm)
      : compute_(compute), comm_(comm), fork_(Event::Kind::order), join_(Event::Kind::order) {}

  void run_eagerly() {
    forget();
    enqueue();
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  void run_in_a_graph() {
    StreamCapture capture(compute_, comm_);
    enqueue();
    const Graph graph = capture.end();
    const GraphExec exec(graph);
    forget();
    exec.launch(compute_);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  /// How far the compute lane had come when the comm lane's kernel started: 0 = its first block had
  /// just started, 1 = its last one.
  double progress_at_start() const {
    const auto begin = of_compute_.first_start_ns();
    const auto waited = static_cast<double>(of_comm_.first_start_ns() - begin);
    return waited / static_cast<double>(of_compute_.last_start_ns() - begin);
  }

 private:
  static constexpr std::int64_t kBlockNs = 100'000;
  static constexpr int kRounds = 100;
  static constexpr int kCommBlocks = 8;

  void forget() {
    of_compute_.forget();
    of_comm_.forget();
    unused_.forget();
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  void enqueue() {
    fork_.record(compute_);
    fork_.hold(comm_);
    launch_sm_probe(unused_.probe(), 1, 3'000'000, comm_);
    launch_sm_probe(unused_.probe(), 1, 1'000'000, compute_);
    launch_sm_probe(of_compute_.probe(), 2 * num_sms() * kRounds, kBlockNs, compute_);
    launch_sm_probe(of_comm_.probe(), kCommBlocks, kBlockNs, comm_);
    join_.record(comm_);
    join_.hold(compute_);
  }

  cudaStream_t compute_;
  cudaStream_t comm_;
  Event fork_;
  Event join_;
  SmProbeResult of_compute_;
  SmProbeResult of_comm_;
  SmProbeResult unused_;
};

constexpr double kSoon = 0.5;   // 0.2 expected
constexpr double kLast = 0.95;  // 1 expected

TEST(StreamPriority, TheCommLaneGetsTheNextFreeSm) {
  DOVETAIL_REQUIRE_GPU();
  const CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  FilledLanes lanes(runner.compute_stream(), runner.comm_stream());
  lanes.run_eagerly();
  const double eager = lanes.progress_at_start();
  lanes.run_in_a_graph();
  const double captured = lanes.progress_at_start();
  std::printf(
      "the comm lane starts at %.2f of the compute lane, in a graph at %.2f\n", eager, captured);
  EXPECT_GT(eager, 0.0);
  EXPECT_LT(eager, kSoon);
  EXPECT_GT(captured, 0.0);
  EXPECT_LT(captured, kSoon);
}

/// The twin: a comm lane without a higher priority waits until all blocks of compute have started.
TEST(StreamPriority, OfEqualStreamsTheLaterOneWaits) {
  DOVETAIL_REQUIRE_GPU();
  FilledLanes lanes(c10::cuda::getStreamFromPool(false), c10::cuda::getStreamFromPool(false));
  lanes.run_eagerly();
  const double eager = lanes.progress_at_start();
  lanes.run_in_a_graph();
  const double captured = lanes.progress_at_start();
  std::printf(
      "of equal streams the later one starts at %.2f, in a graph at %.2f\n", eager, captured);
  EXPECT_GT(eager, kLast);
  EXPECT_GT(captured, kLast);
}

}  // namespace
}  // namespace dovetail::test
