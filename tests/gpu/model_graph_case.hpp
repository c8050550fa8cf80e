// Steps of a small bfloat16 model on the GPUs of the world, as the program runs them: on a padded
// batch, through an exchange over NCCL, eagerly or captured; for tests of the captured graph.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "framework/plan/policy.hpp"
#include "framework/step/cuda/step_runner.hpp"
#include "framework/step/model_step.hpp"
#include "framework/step/padded_batch.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/step_kernels.hpp"

namespace dovetail::test {

struct ModelGraphSetting {
  std::string policy;
  int num_ubatches = 1;
  int num_groups = 1;
  WorkPhase phase = WorkPhase::prefill;
  std::string exchange;  ///< gather or padded
  HandOff hand_off = HandOff::threads;
  std::uint64_t seed = 0;  ///< of weights and batches; 0 = a fresh one
};

std::string name_of(const ModelGraphSetting& setting);

/// For GoogleTest.
void PrintTo(const ModelGraphSetting& setting, std::ostream* out);

/// The model has a MoE, a dense and a MoE layer with shared experts. Two batches, of other lengths
/// on each rank; in the second one the last of several ranks is idle. Both fit one padded batch,
/// whose bounds the ranks agree on as the program does. Every run starts from the same KV cache and
/// from poisoned outputs. All calls are collective over the world. Captured steps die before this.
class ModelGraphCase {
 public:
  explicit ModelGraphCase(const ModelGraphSetting& setting);

  static constexpr int kNumBatches = 2;

  /// Of batch 0 or 1: hidden [tokens, H] and logits [requests, vocabulary].
  StepOutputs run_eager(int batch, OpTimes* times = nullptr, bool gated = false);
  StepOutputs replay(CapturedStep& step, int batch, OpTimes* times = nullptr);

  /// With batch 0 in place; two eager runs must have come before. Local but for its errors.
  std::unique_ptr<CapturedStep> capture(bool instrumented = false);

  /// What it has seen is of the last capture; its `before` is called ahead of each op.
  NodeWatch& watch() { return *watch_; }

  const Schedule& schedule() const { return schedule_; }

  const StepBounds& bounds() const { return padded_->bounds(); }

  const CudaStepRunner& runner() const { return *runner_; }

  const std::string& exchange_kind() const { return setting_.exchange; }

  bool has_peers() const { return group_.size > 1; }

  bool is_last_rank() const { return group_.rank == group_.size - 1; }

  std::uint64_t seed() const { return seed_; }

 private:
  struct GivenBatch {
    StepWorkload workload;
    StepInputs inputs;
    std::vector<UbatchSlice> slices;
  };

  void make_model();
  void make_batches();
  void fill_cache();
  StepBounds agree_on_bounds() const;
  PaddedShape padded_shape() const;
  void load(int batch);
  StepOutputs outputs_of(int batch) const;
  int comm_sms() const;

  ModelGraphSetting setting_;
  TestGroup group_;
  std::uint64_t seed_;
  at::Device device_;
  std::unique_ptr<Model> model_;
  Schedule schedule_;
  KvPages pages_;
  std::vector<GivenBatch> batches_;
  KvCache cache_;
  KvCache pristine_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<PaddedBatch> padded_;
  std::unique_ptr<ModelStep> body_;
  std::unique_ptr<NodeWatch> watch_;
  std::unique_ptr<CudaStepRunner> runner_;
};

}  // namespace dovetail::test
