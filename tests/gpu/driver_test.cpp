// The driver of a GPU rank beside whole runs: what a step must write is NaN before it, also where
// the attempt of a capture has run the step already.
#include <memory>
#include <optional>

#include <ATen/ops/index_select.h>
#include <ATen/ops/isnan.h>
#include <gtest/gtest.h>

#include "framework/config/load.hpp"
#include "framework/mpi/groups.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/resolve.hpp"
#include "framework/step/step_driver.hpp"
#include "models/registry.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

constexpr const char* kExperiment = "model: {architecture: qwen3_moe, config: '" DOVETAIL_SOURCE_DIR
                                    "/models/configs/qwen3-moe-tiny.json', weights: {seed: 3}}"
                                    R"(
experiment: driver
workload: {requests: {lengths: [9, 1, 30]}, seed: 5}
execution: {device: cuda, dtype: bfloat16, exchange: gather, graph: full, timeout_s: 20}
policies: [{name: dual, schedule: dual_batch, ubatches: 2}]
fault: {kind: capture, rank: 0, ubatch: 1, layer: 1, phase: experts, iteration: 0}
)";

/// All that a driver needs, on this rank's GPU.
class DriverCase {
 public:
  DriverCase()
      : experiment_(parse_experiment(kExperiment, "driver.yaml").experiment),
        grid_(make_grid(world_size(), world_size())),
        groups_(make_rank_groups(session(), grid_)),
        ranks_{.session = session(), .grid = grid_, .groups = groups_, .wait = {.on_poll = [] {}}},
        device_(ranks_,
                {.kind = DeviceKind::cuda, .ordinal = session().local_rank(), .name = "a GPU"}),
        architecture_(architectures().at("qwen3_moe")(experiment_.model)),
        workload_(make_workload(experiment_.workload,
                                nullptr,
                                architecture_->dims().vocabulary,
                                world_size(),
                                session().rank())),
        resolved_(resolve_policy(experiment_,
                                 policy(),
                                 *architecture_,
                                 {DeviceKind::cuda, "a GPU", world_size()},
                                 build_capabilities({"qwen3_moe"}))),
        source_(model_catalog().open_weights(experiment_.model.weights)),
        model_(architecture_->make_model(*source_,
                                         {.ep_size = world_size(),
                                          .ep_rank = session().rank().value,
                                          .dtype = at::kBFloat16,
                                          .device = device_.device()})),
        iteration_(workload_, given_, policy().execution, *model_, 5, device_.device()),
        outputs_(make_outputs(iteration_, *model_, {.logits_all = true, .layers = true})),
        fault_(experiment_.faults.front(), session().rank(), at::kCUDA),
        cuts_(cut_steps(workload_.steps, resolved_.split, 2)),
        driver_(make_step_driver({.ranks = ranks_,
                                  .device = device_,
                                  .execution = policy().execution,
                                  .resolved = resolved_.execution,
                                  .workload = experiment_.workload,
                                  .schedules = resolved_.schedules,
                                  .model = *model_,
                                  .given = given_,
                                  .iteration = iteration_,
                                  .outputs = outputs_,
                                  .fault = &fault_})) {}

  void prepare(int iteration) {
    fault_.set_iteration(iteration);
    const auto message = make_message({.rank = session().rank(),
                                       .batch = workload_.steps.front().batch,
                                       .slices = cuts_.front().split,
                                       .schedule_digest = resolved_.schedules.digest()});
    driver_->prepare(
        agree_on_step(
            message,
            agreement_rule(policy(), resolved_.schedules, WorkPhase::prefill, resolved_.bounds),
            resolved_.schedules,
            cuts_.front()),
        {});
  }

  StepDriver& driver() { return *driver_; }

  /// Of every tensor that a step writes: outputs, keys and values.
  std::vector<at::Tensor> written() {
    auto& outputs = outputs_.front();
    std::vector<at::Tensor> all = {outputs.hidden, outputs.logits, outputs.logits_all};
    all.insert(all.end(), outputs.layers.begin(), outputs.layers.end());
    const auto& slots = iteration_.steps().front().slot_mapping;
    for (const auto* tensors : {&iteration_.cache().keys, &iteration_.cache().values}) {
      for (const auto& tensor : *tensors) {
        all.push_back(at::index_select(tensor.flatten(0, 1), 0, slots));
      }
    }
    return all;
  }

 private:
  const PolicyConfig& policy() const { return experiment_.policies.front(); }

  Experiment experiment_;
  RankGrid grid_;
  RankGroups groups_;
  Ranks ranks_;
  RankDevice device_;
  std::unique_ptr<Architecture> architecture_;
  RankWorkload workload_;
  ResolvedPolicy resolved_;
  std::unique_ptr<WeightSource> source_;
  std::unique_ptr<Model> model_;
  GivenInputs given_;
  Iteration iteration_;
  std::vector<StepOutputs> outputs_;
  InjectedFault fault_;
  std::vector<StepCuts> cuts_;
  std::unique_ptr<StepDriver> driver_;
};

void expect_all(std::vector<at::Tensor> tensors, bool is_nan) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto found = at::isnan(tensors[i]);
    EXPECT_TRUE(is_nan ? found.all().item<bool>() : !found.any().item<bool>()) << "tensor " << i;
  }
}

/// A step that does not run leaves NaN, whatever its preparation has run: warm-ups before a capture
/// that fails, before one that succeeds, nothing before a replay.
TEST(CudaDriver, WhatAStepDoesNotWriteIsSeen) {
  DOVETAIL_REQUIRE_GPU();
  DriverCase step;
  const auto leave_out = [&](int iteration) {
    step.prepare(iteration);
    const auto report = step.driver().finish();
    expect_all(step.written(), true);
    return report;
  };
  EXPECT_EQ(leave_out(0).eager_reason, EagerReason::capture_failed);
  EXPECT_TRUE(leave_out(1).captured);
  EXPECT_FALSE(leave_out(2).captured);
  step.prepare(3);
  step.driver().run(nullptr);
  EXPECT_EQ(step.driver().finish().graph, GraphMode::full);
  expect_all(step.written(), false);
}

TEST(CudaDriver, AStepWhoseCaptureFailedRunsEagerly) {
  DOVETAIL_REQUIRE_GPU();
  DriverCase step;
  step.prepare(0);
  step.driver().run(nullptr);
  const auto report = step.driver().finish();
  EXPECT_EQ(report.graph, GraphMode::none);
  EXPECT_EQ(report.eager_reason, EagerReason::capture_failed);
  expect_all(step.written(), false);
}

}  // namespace
}  // namespace dovetail::test
