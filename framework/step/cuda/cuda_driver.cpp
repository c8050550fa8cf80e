#include "framework/step/cuda/cuda_driver.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/nccl/device_exchanges.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/cuda/frame_step.hpp"
#include "framework/step/cuda/gpu_device.hpp"
#include "framework/step/cuda/step_graphs.hpp"
#include "framework/step/kv_cache.hpp"
#include "framework/step/policy_context.hpp"

namespace dovetail {
namespace {

class CudaDriver final : public StepDriver {
 public:
  CudaDriver(const PolicyRunContext& context, FaultHook* fault)
      : context_(context),
        fault_(fault),
        wait_(policy_wait(context)),
        kind_(choose_exchange(context.policy.execution.exchange, true).name),
        comm_(context.device.gpu().ep_comm(context.policy.execution.comm_sms)),
        exchange_(make_policy_exchange(context.schedules.own.num_ubatches)),
        runner_({.device = context.device.device().index(),
                 .timeout = wait_.timeout,
                 .on_poll = [this] { poll(); },
                 .cancel_comm = [this] { cancel_comm(); }},
                {.hand_off = context.policy.execution.hand_off, .timeout = wait_.timeout}),
        graphs_(context, kind_, *exchange_, runner_) {
    forget_memory();
  }

  Exchange& exchange() override { return *exchange_; }

  bool plans_cost_time() const override { return true; }

  void prepare(const AgreedStep& agreed, const StepPass& pass) override {
    const auto step = static_cast<std::size_t>(pass.step);
    const auto& inputs = context_.iteration.steps().at(step);
    schedule_ = &agreed.schedule;
    pass_ = pass;
    facts_ = {};
    captured_ = nullptr;
    use_frame(agreed.decision.bounds);
    current_->frame.load(inputs, agreed.slices, given_at(context_.given.expert_ids, step));
    make_buffers();
    outputs_ = &context_.outputs.at(step);
    facts_.eager_reason = graphs_.reason_to_run_eagerly(pass, *current_);
    if (facts_.eager_reason == EagerReason::none) {
      captured_ = graphs_.find_or_capture(*schedule_, pass, *current_, facts_);
    }
    current_->begin(*exchange_, pass.pass, pass.keep_plans);
    if (facts_.captured) {
      // The warm-ups have written what only the step itself must have written.
      current_->frame.outputs().poison();
      poison_slots(context_.iteration.cache(), inputs.slot_mapping);
    }
    check_cuda(cudaDeviceSynchronize(), "end of a step's preparation");
  }

  StepFacts run(OpTimes* times) override {
    if (captured_ != nullptr) {
      runner_.replay(*captured_->step, times);
      exchange_->meter().add(captured_->traffic);
      facts_.graph = graphs_.mode();
      graphs_.count_replay();
    } else {
      const SmPartition partition(graphs_.sms_of_comm(*schedule_));
      runner_.run_eager(*schedule_, current_->body, pass_.pass, times);
      graphs_.count_eager(facts_.eager_reason);
    }
    facts_.enqueue_ns = runner_.last_enqueue_ns();
    clock_error_ns_ = std::max(clock_error_ns_, runner_.clock_alignment().error_ns);
    return facts_;
  }

  void finish() override {
    exchange_->buffers().check_step();
    if (pass_.pass == PassKind::full) {
      current_->frame.store(*outputs_);
      check_cuda(cudaDeviceSynchronize(), "copy of a step's outputs");
    }
  }

  void poison() override {
    for (auto& step : frames_) {
      step->frame.outputs().poison();
    }
  }

  /// Eager: it happens once. Over an exchange of its own: batches that fill a context may be much
  /// larger than a step's.
  void fill_context(int context_step) override {
    const auto index = static_cast<std::size_t>(context_step);
    const auto& inputs = context_.iteration.context_steps().at(index);
    const auto whole = split_batch(inputs.batch, {}, 1);
    const auto& ranks = context_.rank_context;
    const RankStep own = {.rank = ranks.rank(),
                          .batch = inputs.batch,
                          .slices = whole,
                          .schedule_digest = 0,
                          .veto = VetoReason::none,
                          .status = RankStatus::well,
                          .graph_cache_digest = 0};
    const auto reduced = agree(ranks.groups.agreement, make_message(own), wait_);
    const auto expert_ids = given_at(context_.given.context_expert_ids, index);
    auto shape = frame_shape(context_);
    shape.selection = {.logits = false};
    shape.has_embeds = inputs.embeds.defined();
    shape.replays_routing = expert_ids.defined();
    context_exchange_ = make_policy_exchange(1);
    context_step_ = std::make_unique<FrameStep>(
        context_, *context_exchange_, decide(reduced, {}).bounds, shape, nullptr);
    context_step_->frame.load(inputs, whole, expert_ids);
    context_step_->begin(*context_exchange_, PassKind::full, false);
    check_cuda(cudaDeviceSynchronize(), "inputs of the context");
    runner_.run_eager(context_.schedules.plain, context_step_->body, PassKind::full, nullptr);
    context_exchange_->buffers().check_step();
    context_step_.reset();
    context_exchange_.reset();
    forget_memory();
  }

  std::uint64_t graph_cache_digest() const override { return graphs_.digest(); }

  void drop_graphs() override { graphs_.clear(); }

  void add_tokens_per_expert(int step, std::span<std::int64_t> counts) const override {
    DOVETAIL_CHECK_EQ(step, pass_.step);
    DOVETAIL_CHECK(pass_.keep_plans, "the pass has not kept its plans");
    current_->body.add_tokens_per_expert(counts);
  }

  void record_memory(RankRecorder& recorder) const override {
    const auto stats =
        c10::cuda::CUDACachingAllocator::getDeviceStats(context_.device.device().index());
    const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto& cache = context_.iteration.cache();
    std::int64_t cache_bytes = 0;
    for (const auto* tensors : {&cache.keys, &cache.values}) {
      for (const auto& tensor : *tensors) {
        cache_bytes += static_cast<std::int64_t>(tensor.nbytes());
      }
    }
    recorder.write_memory({.peak_reserved = stats.reserved_bytes.at(all).peak,
                           .peak_allocated = stats.allocated_bytes.at(all).peak,
                           .weights = context_.model.weight_bytes(),
                           .cache = cache_bytes,
                           .exchange = exchange_->buffers().bytes()});
  }

  void record_graphs(RankRecorder& recorder) const override {
    recorder.write_graph_counters(graphs_.counters());
    recorder.set_attribute(path::kTiming, {attribute::kDeviceClockErrorNs, clock_error_ns_});
  }

 private:
  std::unique_ptr<Exchange> make_policy_exchange(int num_ubatches) const {
    return make_device_exchange(kind_,
                                exchange_shape(context_, num_ubatches),
                                {.comm = comm_,
                                 .counts_comm = &context_.rank_context.groups.counts,
                                 .wait = wait_,
                                 .padded_capacity = context_.policy.execution.padded_capacity,
                                 .world_rank = context_.rank_context.rank().value});
  }

  /// Gives back what an earlier policy, or the context, has left behind, so that peaks are this
  /// policy's own.
  void forget_memory() const {
    check_cuda(cudaDeviceSynchronize(), "before memory is given back");
    at::cuda::clearCublasWorkspaces();
    c10::cuda::CUDACachingAllocator::emptyCache();
    c10::cuda::CUDACachingAllocator::resetPeakStats(context_.device.device().index());
  }

  void poll() {
    wait_.on_poll();
    if (comm_ != nullptr) {
      comm_->check_async();
    }
  }

  void cancel_comm() noexcept {
    if (comm_ != nullptr) {
      comm_->abort();
    }
  }

  /// The frame of these bounds, which are equal on all ranks. Graphs refer to frames, so both go
  /// where there are too many.
  void use_frame(const StepBounds& bounds) {
    for (const auto& step : frames_) {
      if (step->frame.bounds() == bounds) {
        current_ = step.get();
        return;
      }
    }
    if (frames_.size() >= kMaxGraphs) {
      graphs_.clear();
      frames_.clear();
    }
    frames_.push_back(
        std::make_unique<FrameStep>(context_, *exchange_, bounds, frame_shape(context_), fault_));
    current_ = frames_.back().get();
  }

  /// The exchange's buffers are made for the bounds; graphs that refer to smaller ones are dropped,
  /// on all ranks alike.
  void make_buffers() {
    auto& buffers = exchange_->buffers();
    buffers.begin_step(tokens_of(current_->frame.bounds()));
    if (buffers.generation() != generation_) {
      graphs_.clear();
      generation_ = buffers.generation();
    }
  }

  const PolicyRunContext& context_;
  FaultHook* fault_;
  WaitPolicy wait_;
  std::string kind_;
  NcclComm* comm_;  ///< null for a group of one rank
  std::unique_ptr<Exchange> exchange_;
  std::uint64_t generation_ = 0;  ///< of the exchange's buffers
  std::vector<std::unique_ptr<FrameStep>> frames_;
  // Of the context that is being filled. They stay when it fails: a thread may be in an op of them.
  std::unique_ptr<Exchange> context_exchange_;
  std::unique_ptr<FrameStep> context_step_;
  // Of the step that was prepared.
  FrameStep* current_ = nullptr;
  const GraphEntry* captured_ = nullptr;
  const Schedule* schedule_ = nullptr;
  StepOutputs* outputs_ = nullptr;
  StepPass pass_;
  StepFacts facts_;
  std::int64_t clock_error_ns_ = 0;  ///< the largest of the profiled passes
  CudaStepRunner runner_;
  StepGraphs graphs_;  ///< dies before all that its graphs refer to
};

}  // namespace

std::unique_ptr<StepDriver> make_cuda_driver(const PolicyRunContext& context, FaultHook* fault) {
  return std::make_unique<CudaDriver>(context, fault);
}

}  // namespace dovetail
