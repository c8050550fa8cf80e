// The driver of a GPU rank beside whole runs: what a step must write is NaN before it, also where
// the attempt of a capture has run the step already; which steps are graphs, and how many SMs
// the exchange takes and the GEMMs leave to it.
#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include "framework/config/comm_sms.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "models/registry.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/mpi/policy_case.hpp"

namespace dovetail::test {
namespace {

std::string experiment(const std::string& lengths,
                       const std::string& execution,
                       const std::string& policy,
                       const std::string& more = "") {
  return "experiment: driver\nmodel: {architecture: qwen3_moe, config: '" DOVETAIL_SOURCE_DIR
         "/models/configs/qwen3-moe-tiny.json'}\nparallel: {expert_parallel: " +
         std::to_string(world_size()) + "}\nworkload: {requests: {lengths: " + lengths +
         "}, seed: 5}\nexecution: {device: cuda, dtype: bfloat16, exchange: gather, timeout_s: "
         "20, " +
         execution + "}\npolicies: [{name: one, " + policy +
         "}]\nrecord: {outputs: [hidden, logits, logits_all, layers, routing], timing: steps}\n" +
         more;
}

constexpr const char* kDual = "schedule: dual_batch, ubatches: 2";

/// A step whose first capture fails.
std::string failing_capture() {
  return experiment(
      "[9, 1, 30]",
      "graph: full",
      kDual,
      "fault: {kind: capture, rank: 0, ubatch: 1, layer: 1, phase: experts, iteration: 0}\n");
}

std::unique_ptr<WeightSource> seeded_weights() {
  return model_catalog().open_weights(SeedWeights{.seed = 3});
}

/// Of every tensor that a step writes: outputs, keys and values.
void expect_written(PolicyCase& step, bool is_written) {
  expect_all_nan(step.outputs_written(), !is_written);
  expect_all_nan(step.cache_written(), !is_written);
}

/// A step that does not run leaves NaN, whatever its preparation has run: warm-ups before a capture
/// that fails, before one that succeeds, nothing before a replay.
TEST(CudaDriver, WhatAStepDoesNotWriteIsSeen) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = seeded_weights();
  PolicyCase step(failing_capture(), *weights);
  const auto leave_out = [&](int iteration) {
    step.prepare(iteration);
    const auto report = step.driver().finish();
    expect_written(step, false);
    return report;
  };
  EXPECT_EQ(leave_out(0).eager_reason, EagerReason::capture_failed);
  EXPECT_TRUE(leave_out(1).captured);
  EXPECT_FALSE(leave_out(2).captured);
  step.prepare(3);
  step.driver().run(nullptr);
  EXPECT_EQ(step.driver().finish().graph, GraphMode::full);
  expect_written(step, true);
}

TEST(CudaDriver, AStepWhoseCaptureFailedRunsEagerly) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = seeded_weights();
  PolicyCase step(failing_capture(), *weights);
  step.prepare(0);
  step.driver().run(nullptr);
  const auto report = step.driver().finish();
  EXPECT_EQ(report.graph, GraphMode::none);
  EXPECT_EQ(report.eager_reason, EagerReason::capture_failed);
  expect_written(step, true);
}

/// A vote against ubatching takes the ubatches from a step, not its graph.
TEST(CudaDriver, AVetoedStepReplaysThePlainGraph) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = seeded_weights();
  PolicyCase step(
      experiment("[9, 1, 30]",
                 "graph: full",
                 kDual,
                 "fault: {kind: veto, rank: 0, ubatch: 0, layer: 0, phase: route, iteration: 1}\n"),
      *weights);
  // Graphs are captured again where buffers have grown, so what must not be captured comes last.
  constexpr int num_growing = 4;
  int num_steps = 0;
  for (const int iteration : {0, 1, 0, 1, 0, 1, 1, 0}) {
    SCOPED_TRACE("step " + std::to_string(num_steps) + ", as of iteration " +
                 std::to_string(iteration));
    EXPECT_EQ(step.prepare(iteration).decision.ubatched, iteration == 0);
    step.driver().run(nullptr);
    const auto report = step.driver().finish();
    EXPECT_EQ(report.graph, GraphMode::full);
    EXPECT_EQ(report.eager_reason, EagerReason::none);
    EXPECT_FALSE(report.captured && num_steps >= num_growing);
    expect_written(step, true);
    ++num_steps;
  }
}

/// Scope that looks at every GEMM which LibTorch is asked for, by any thread, also in a capture:
/// how many SMs it leaves out. One at a time.
class GemmWatch {
 public:
  GemmWatch() : handle_(at::addGlobalCallback(at::RecordFunctionCallback(look))) {
    num_gemms_ = 0;
    fewest_ = std::numeric_limits<int>::max();
    most_ = 0;
  }

  ~GemmWatch() { at::removeCallback(handle_); }

  GemmWatch(const GemmWatch&) = delete;
  GemmWatch& operator=(const GemmWatch&) = delete;
  GemmWatch(GemmWatch&&) = delete;
  GemmWatch& operator=(GemmWatch&&) = delete;

  static int num_gemms() { return num_gemms_; }

  static int fewest() { return fewest_; }

  static int most() { return most_; }

 private:
  static std::unique_ptr<at::ObserverContext> look(const at::RecordFunction& function) {
    const std::string_view name = function.name();
    if (name == "aten::linear" || name == "aten::_grouped_mm") {
      const std::scoped_lock lock(mutex_);
      ++num_gemms_;
      fewest_ = std::min(fewest_, SmPartition::left_out());
      most_ = std::max(most_, SmPartition::left_out());
    }
    return nullptr;
  }

  static inline std::mutex mutex_;
  static inline int num_gemms_ = 0;
  static inline int fewest_ = 0;
  static inline int most_ = 0;
  at::CallbackHandle handle_;
};

/// Runs a step. `exchange`: the SMs that its exchange takes; `left`: those that its GEMMs leave
/// out, also in the eager runs before a capture; a replay enqueues none. Both 0 on one GPU.
void expect_sms(PolicyCase& step, int iteration, int exchange, int left) {
  step.driver();
  const GemmWatch watch;
  step.prepare(iteration);
  step.driver().run(nullptr);
  const auto report = step.driver().finish();
  const bool has_peers = world_size() > 1;
  EXPECT_EQ(report.comm_sms, has_peers ? exchange : 0);
  if (report.graph == GraphMode::none || report.captured) {
    EXPECT_GT(watch.num_gemms(), 0);
    EXPECT_EQ(watch.fewest(), has_peers ? left : 0);
    EXPECT_EQ(watch.most(), has_peers ? left : 0);
  }
  EXPECT_EQ(SmPartition::left_out(), 0);
}

/// GEMMs leave the exchange its share where it overlaps with them, else nothing. With `comm_sms:
/// auto` an exchange that runs alone has all SMs.
TEST(CudaDriver, GemmsLeaveTheExchangeItsSmsWhereItOverlaps) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = seeded_weights();
  for (const auto* graph : {"none", "full"}) {
    for (const auto* sms : {"auto", "16"}) {
      for (const bool overlaps : {false, true}) {
        const bool is_auto = std::string_view(sms) == "auto";
        const std::string execution = "comm_sms: " + std::string(sms) + ", graph: " + graph;
        SCOPED_TRACE(std::string(overlaps ? "dual_batch" : "sequential") + ", " + execution);
        PolicyCase step(
            experiment("[90, 70]", execution, overlaps ? kDual : "schedule: sequential"), *weights);
        const int bounded = is_auto ? 8 : 16;
        expect_sms(step, 0, overlaps || !is_auto ? bounded : kAllSms, overlaps ? bounded : 0);
      }
    }
  }
}

/// A vetoed step of an overlapping policy exchanges as a plain one, and its neighbours as before.
TEST(CudaDriver, AVetoedStepGivesItsExchangeAllSms) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = seeded_weights();
  for (const auto* graph : {"none", "full"}) {
    for (const auto* exchange : {"gather", "padded"}) {
      SCOPED_TRACE(std::string(exchange) + ", graph: " + graph);
      PolicyCase step(
          experiment(
              "[90, 70]",
              "graph: " + std::string(graph),
              kDual + std::string(", exchange: ") + exchange,
              "fault: {kind: veto, rank: 0, ubatch: 0, layer: 0, phase: route, iteration: 1}\n"),
          *weights);
      for (int round = 0; round < 2; ++round) {
        expect_sms(step, 0, 8, 8);
        expect_sms(step, 1, kAllSms, 0);
      }
    }
  }
}

}  // namespace
}  // namespace dovetail::test
