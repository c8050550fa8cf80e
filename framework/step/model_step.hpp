// What the ops of a schedule do: joins a model, an exchange and a rank's batch. Knows phases, but
// no policy, thread or stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/step/model.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// A fault that an experiment asks for, thrown or acted out at the head of an op; `fault.hpp` makes
/// it.
class FaultHook {
 public:
  virtual ~FaultHook() = default;
  virtual void before(const Op& op) = 0;

  /// Whether the ops from now on are captured.
  virtual void set_capturing(bool is_capturing) = 0;
};

/// A row of a ubatch whose logits are wanted: the last token of a request.
struct LastRow {
  std::int64_t row = 0;      ///< within the ubatch
  std::int64_t request = 0;  ///< row in outputs of requests
};

/// One ubatch of a step: its inputs, and where its rows lie in the tensors of the outputs.
struct UbatchWork {
  UbatchInputs inputs;
  std::int64_t token_start = 0;    ///< its first row in outputs of tokens, and in replayed routing
  std::int64_t request_start = 0;  ///< its first row in outputs of requests: one a segment on a GPU
  std::vector<LastRow> last_rows;  ///< on the CPU: which of its rows have logits
};

/// Runs the ops of one rank's steps. All references outlive it. One step at a time: begin, then the
/// ops by the runner.
class ModelStep final : public StepBody {
 public:
  ModelStep(const Model& model, Exchange& exchange, KvCache& cache, StepOutputs& outputs);

  /// Sets the ubatches of the next step. With `keep_plans` a full pass keeps the exchange plans of
  /// all layers; the passes compute_only and comm_only run with the plans that were kept last, by a
  /// pass over the same ubatches.
  void begin(std::vector<UbatchWork> ubatches, PassKind pass, bool keep_plans);

  /// Expert ids [layers, tokens, k] int64 of this rank's batch, taken instead of the model's top-k;
  /// undefined = natural routing.
  void replay_routing(at::Tensor expert_ids) { replay_ids_ = std::move(expert_ids); }

  /// A step of the CPU: the ubatches of a batch, by its own tensors and in its own order.
  static std::vector<UbatchWork> cut(const StepInputs& inputs,
                                     const std::vector<UbatchSlice>& slices);

  /// Called before each op; null = none. Not owned.
  void set_fault(FaultHook* fault) { fault_ = fault; }

  /// For the fault: see FaultHook.
  void set_capturing(bool is_capturing) {
    if (fault_ != nullptr) {
      fault_->set_capturing(is_capturing);
    }
  }

  void run(const Op& op) override;

  /// Adds the rows that each local expert computed in the last pass that kept its plans, over all
  /// ubatches, to `counts` [layers, experts_per_rank] row-major; dense layers add nothing. Between
  /// passes.
  void add_tokens_per_expert(std::span<std::int64_t> counts) const;

 private:
  struct Ubatch {
    UbatchWork work;
    UbatchState state;
    int combined_layer = -1;  ///< layer whose combine has not been finished yet
  };

  void route(const Op& op, Ubatch& ubatch);
  void experts(const Op& op, Ubatch& ubatch);
  void exchange(const Op& op);
  void finish_combine(int index, Ubatch& ubatch);
  void output(Ubatch& ubatch);
  void logits(const Ubatch& ubatch, const at::Tensor& normed);
  void keep_layer(int layer, const Ubatch& ubatch);
  std::shared_ptr<ExchangePlan>& plan(const Op& op);

  const Model& model_;
  Exchange& exchange_;
  KvCache& cache_;
  StepOutputs& outputs_;
  at::Tensor replay_ids_;
  FaultHook* fault_ = nullptr;
  PassKind pass_ = PassKind::full;
  bool keep_plans_ = true;
  std::vector<Ubatch> ubatches_;
  std::vector<std::shared_ptr<ExchangePlan>> plans_;  ///< [layer, ubatch]
};

}  // namespace dovetail
