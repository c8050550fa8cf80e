// The driver of GPU ranks: padded batches, eager steps, captured steps.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/step/cuda/step_graphs.hpp"
#include "framework/step/cuda/step_runner.hpp"
#include "framework/step/model_step.hpp"
#include "framework/step/padded_batch.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {

/// Batches are padded to the agreed bounds, eager and captured steps alike, so that both have one
/// shape; each shape has its tensors, which captured steps refer to.
class CudaDriver final : public StepDriver {
 public:
  /// Collective over the world: makes the exchange's communicators.
  explicit CudaDriver(const StepSetup& setup);
  ~CudaDriver() override;
  CudaDriver(const CudaDriver&) = delete;
  CudaDriver& operator=(const CudaDriver&) = delete;
  CudaDriver(CudaDriver&&) = delete;
  CudaDriver& operator=(CudaDriver&&) = delete;

  void prepare(const AgreedStep& agreed, const StepPass& pass) override;
  void run(OpTimes* times) override;
  StepReport finish() override;
  void add_tokens_per_expert(std::span<std::int64_t> counts) const override;

  /// Eager: it happens once. Over an exchange of its own: batches that fill a context may be much
  /// larger than a step's.
  void fill_context(int context_step, StepOutputs& outputs) override;

  std::uint64_t graph_cache_digest() const override { return graphs_.digest(); }

  DriverReport report() const override;

 private:
  /// Of a forward pass that fills a part of the context. It stays when that fails: a thread may be
  /// in an op of it.
  struct ContextFill;

  std::unique_ptr<Exchange> make_policy_exchange(int num_ubatches) const;
  PaddedShape padded_shape() const;
  void forget_memory() const;
  void poll();
  bool end_own_waits() noexcept;
  void cancel_comm() noexcept;
  void act_where_graphs_are_launched() const;
  StepBounds frame_bounds(StepBounds agreed, WorkPhase phase) const;
  void use_batch(const StepBounds& bounds);
  void make_buffers(const AgreedStep& agreed);
  MemoryRecord memory() const;

  const StepSetup setup_;
  const std::map<int, NcclComm*>
      comms_;  ///< by SMs, kAllSms included; empty for a group of one rank
  std::unique_ptr<Exchange> exchange_;
  ModelStep body_;
  std::uint64_t generation_ = 0;  ///< of the exchange's buffers
  std::vector<std::unique_ptr<PaddedBatch>> batches_;
  std::unique_ptr<ContextFill> context_fill_;
  // Of the step that was prepared.
  PaddedBatch* batch_ = nullptr;
  const GraphEntry* captured_ = nullptr;
  const Schedule* schedule_ = nullptr;
  StepPass pass_;
  int comm_sms_ = 0;  ///< that GEMMs leave to the exchange
  StepReport report_;
  std::int64_t clock_error_ns_ = 0;  ///< the largest of the profiled passes
  CudaStepRunner runner_;
  StepGraphs graphs_;  ///< dies before all that its graphs refer to
};

}  // namespace dovetail
