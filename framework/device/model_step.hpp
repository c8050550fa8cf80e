// What the ops of a schedule do: joins a model, an exchange and a rank's batch. Knows phases, but
// no policy, thread or stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/device/model.hpp"
#include "framework/device/step_inputs.hpp"
#include "framework/exec/step_body.hpp"

namespace dovetail {

/// A fault that an experiment asks for, thrown or acted out at the head of an op; `fault.hpp` makes
/// it.
class FaultHook {
 public:
  virtual ~FaultHook() = default;
  virtual void before(const Op& op) = 0;
};

/// Runs the ops of one rank's steps. All references outlive it. One step at a time: begin, then the
/// ops by the runner.
class ModelStep final : public StepBody {
 public:
  ModelStep(const Model& model,
            Exchange& exchange,
            const StepInputs& inputs,
            KvCache& cache,
            StepOutputs& outputs);

  /// Sets the ubatches of the next step. In a full pass the exchange plans of all layers are kept;
  /// the passes compute_only and comm_only run with the plans of the last full pass, which must
  /// have had the same slices.
  void begin(const std::vector<UbatchSlice>& slices, PassKind pass);

  /// Expert ids [layers, tokens, k] int64 of this rank's batch, taken instead of the model's top-k;
  /// undefined = natural routing.
  void replay_routing(at::Tensor expert_ids) { replay_ids_ = std::move(expert_ids); }

  /// Called before each op; null = none. Not owned.
  void set_fault(FaultHook* fault) { fault_ = fault; }

  void run(const Op& op) override;

  /// Adds the rows that each local expert computed in the last full pass, over all ubatches, to
  /// `counts` [layers, experts_per_rank] row-major; dense layers add nothing. Between passes.
  void add_tokens_per_expert(std::span<std::int64_t> counts) const;

 private:
  struct Ubatch {
    UbatchSlice slice;
    UbatchState state;
    int combined_layer = -1;  ///< layer whose combine has not been finished yet
  };

  void route(const Op& op, Ubatch& ubatch);
  void experts(const Op& op, Ubatch& ubatch);
  void exchange(const Op& op);
  void finish_combine(int index, Ubatch& ubatch);
  void output(Ubatch& ubatch);
  void keep_layer(int layer, const Ubatch& ubatch);
  std::shared_ptr<ExchangePlan>& plan(const Op& op);

  const Model& model_;
  Exchange& exchange_;
  const StepInputs& inputs_;
  KvCache& cache_;
  StepOutputs& outputs_;
  at::Tensor replay_ids_;
  FaultHook* fault_ = nullptr;
  PassKind pass_ = PassKind::full;
  std::vector<Ubatch> ubatches_;
  std::vector<std::shared_ptr<ExchangePlan>> plans_;  ///< [layer, ubatch] of the last full pass
};

}  // namespace dovetail
