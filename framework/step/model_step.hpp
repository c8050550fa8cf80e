// What the ops of a schedule do: ModelStep joins a model, an exchange and a rank's batch. It knows
// phases, but no policy, thread or stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/step/fault.hpp"
#include "framework/step/model.hpp"
#include "framework/step/rounding_meter.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

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

/// A rank's batch of one step. Outputs and routing outlive the step.
struct StepWork {
  std::vector<UbatchWork> ubatches;
  StepOutputs* outputs = nullptr;
  at::Tensor replay_ids;  ///< expert ids [layers, tokens, k] int64 taken instead of the model's
                          ///< top-k; undefined = natural routing
  int num_groups = 1;     ///< of the schedule
};

/// The work of a step on the CPU: the ubatches of a batch, by its own tensors and in its own order.
StepWork cut_step(const StepInputs& inputs,
                  const std::vector<UbatchSlice>& slices,
                  StepOutputs& outputs,
                  const at::Tensor& replay_ids,
                  int num_groups = 1);

/// Runs the ops of one rank's steps, one step at a time: first begin, then the runner calls run for
/// each op. Everything that the constructor gets by reference outlives it.
class ModelStep final : public StepBody {
 public:
  /// `fault` may be null.
  ModelStep(const Model& model, Exchange& exchange, KvCache& cache, InjectedFault* fault);

  /// Sets the next step. With `keep_plans` a full pass keeps the exchange plans of all layers. The
  /// passes compute_only and comm_only then run with the plans that a pass over the same ubatches
  /// has kept last. With `poison_received` what an exchange has received becomes NaN as soon as it
  /// was used.
  void begin(StepWork work, PassKind pass, bool keep_plans, bool poison_received = false);

  void run(const Op& op) override;

  /// Adds the rows that each local expert computed in the last pass that kept its plans, over all
  /// ubatches, to `counts` [layers, experts_per_rank] row-major; dense layers add nothing. Between
  /// passes.
  void add_tokens_per_expert(std::span<std::int64_t> counts) const;

  /// RoundingMeter::most of all passes so far that have kept plans or poisoned what was received:
  /// those that nobody times or captures.
  std::vector<float> most_roundings() const { return rounding_meter_.most(); }

 private:
  struct Ubatch {
    UbatchWork work;
    UbatchState state;
    int combined_layer = -1;  ///< layer whose combine has not been finished yet
    at::Tensor roundings;     ///< of the RoundingMeter
  };

  /// For passes without the exchange, or with nothing else: what the exchange made of a routing,
  /// and of which.
  struct KeptRoute {
    std::shared_ptr<ExchangePlan> plan;
    at::Tensor expert_ids;
    at::Tensor weights;
  };

  void run_phase(const Op& op, DataFault* fault);
  void route(const Op& op, Ubatch& ubatch);
  void exchange(const Op& op, DataFault* fault);
  void finish_combine(int index, Ubatch& ubatch);
  void poison(int ubatch, Phase phase);
  void experts(const Op& op, Ubatch& ubatch);
  void output(int index, Ubatch& ubatch);
  void logits(const Ubatch& ubatch, const at::Tensor& normed);
  void keep_routing(int layer, const Ubatch& ubatch);
  void keep_layer(int layer, const Ubatch& ubatch);
  KeptRoute& kept_route(const Op& op);

  bool counts_roundings() const { return keep_plans_ || poison_received_; }

  DataFault* data_fault() const;
  DataFault* data_fault_at(int layer, int ubatch, Phase phase) const;

  const Model& model_;
  Exchange& exchange_;
  KvCache& cache_;
  InjectedFault* fault_;
  PassKind pass_ = PassKind::full;
  bool keep_plans_ = false;
  bool poison_received_ = false;
  StepOutputs* outputs_ = nullptr;
  int num_groups_ = 1;
  at::Tensor replay_ids_;
  std::vector<Ubatch> ubatches_;
  std::vector<KeptRoute> kept_routes_;  ///< [layer, ubatch]
  RoundingMeter rounding_meter_;
};

}  // namespace dovetail
