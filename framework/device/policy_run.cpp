#include "framework/device/policy_run.hpp"

#include <array>
#include <atomic>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>

#include "framework/base/log.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/device/fault.hpp"
#include "framework/device/torch_dtype.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/exec/runner.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/plan/agreement.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/split.hpp"

namespace dovetail {
namespace {

constexpr std::array<PassKind, 3> kPasses = {
    PassKind::full, PassKind::compute_only, PassKind::comm_only};

std::unique_ptr<Exchange> make_policy_exchange(const PolicyRunContext& context,
                                               const WaitPolicy& wait) {
  const auto& ranks = context.rank_context;
  const auto& dims = context.model.dims();
  const ExchangeShape shape = {.ep_size = ranks.grid.expert_parallel,
                               .ep_rank = ranks.ep_rank().value,
                               .num_experts = dims.num_experts,
                               .top_k = dims.top_k,
                               .hidden = dims.hidden,
                               .dtype = dims.dtype,
                               .num_ubatches = context.schedules.own.num_ubatches};
  return make_exchange(choose_exchange(context.policy.execution.exchange).name,
                       shape,
                       ranks.groups.exchange,
                       ranks.groups.counts,
                       wait);
}

/// A thread that spins takes the core of another rank's compute, unless each rank has cores for its
/// compute lane, its comm lane and the spinner.
bool may_spin(const RankContext& context) {
  return static_cast<int>(std::thread::hardware_concurrency()) >= 3 * context.session.local_size();
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

/// One policy on one rank, from the first warm-up step to the last profiled one. Members are in
/// order of creation.
class PolicyRun {
 public:
  PolicyRun(const PolicyRunContext& context, RankRecorder& recorder)
      : context_(context),
        ranks_(context.rank_context),
        recorder_(recorder),
        split_(split_batch(context.inputs.batch,
                           {context.policy.split.kind, context.policy.split.sizes},
                           context.schedules.own.num_ubatches)),
        whole_(split_batch(context.inputs.batch, {}, 1)),
        digest_(schedule_digest(context.schedules.own)),
        cache_(make_kv_cache(context.inputs.num_slots,
                             context.model.dims(),
                             context.model.shape().num_layers(),
                             context.inputs.input_ids.device())),
        exchange_(make_policy_exchange(context, exchange_wait())),
        step_(context.model, *exchange_, context.inputs, cache_, context.outputs),
        executor_({.timeout = ranks_.wait.timeout,
                   .thread_init =
                       [threads = at::get_num_threads()](int) { at::set_num_threads(threads); },
                   .cancel_comm = [this] { exchange_cancelled_ = true; },
                   .may_spin = may_spin(ranks_)}),
        runner_(executor_,
                {.hand_off = context.policy.execution.hand_off,
                 .timeout = ranks_.wait.timeout,
                 .next_may_spin = may_spin(ranks_)}) {
    step_.replay_routing(context.replay_ids);
    if (ranks_.experiment.fault) {
      fault_ = std::make_unique<InjectedFault>(*ranks_.experiment.fault, ranks_.rank());
      step_.set_fault(fault_.get());
    }
  }

  PolicyRunResult run() {
    const auto& execution = context_.policy.execution;
    for (int i = 0; i < execution.warmup; ++i) {
      take_step(agree_on_step(i), PassKind::full, nullptr);
      report_progress(i + 1);
    }
    PolicyRunResult result;
    while (result.finished_iterations < execution.iterations && !result.stopped) {
      result.stopped = timed_iteration(result.finished_iterations++);
      report_progress(execution.warmup + result.finished_iterations);
    }
    record_outputs();
    record_traffic();
    const auto& record = ranks_.experiment.record;
    for (int i = 0; record.timing == TimingDetail::ops && i < record.profiled_iterations; ++i) {
      profiled_iteration(i);
    }
    return result;
  }

 private:
  /// The ranks' wait policy, which also ends when the step has failed elsewhere on this rank.
  WaitPolicy exchange_wait() {
    auto wait = ranks_.wait;
    wait.on_poll = [this, poll = wait.on_poll] {
      poll();
      if (exchange_cancelled_) {
        throw RunError("the step has failed on this rank");
      }
    };
    return wait;
  }

  /// What all ranks do in a step.
  struct AgreedStep {
    StepDecision decision;
    const Schedule& schedule;
    const std::vector<UbatchSlice>& slices;
    int schedule_index = 0;  ///< in the record
  };

  /// Iterations count over warm-up and timed ones; -1 = a profiled one, in which no fault happens.
  AgreedStep agree_on_step(int iteration) {
    ranks_.wait.on_poll();
    const auto& own = context_.schedules.own;
    if (fault_) {
      fault_->set_iteration(iteration);
    }
    const auto message =
        make_message({.rank = ranks_.rank(),
                      .batch = context_.inputs.batch,
                      .slices = split_,
                      .schedule_digest = digest_,
                      .veto = fault_ && fault_->vetoes() ? VetoReason::rank_veto : VetoReason::none,
                      .status = ranks_.signals.stop_requested() ? RankStatus::stop_requested
                                                                : RankStatus::well});
    const auto decision = decide(agree(ranks_.groups.agreement, message, ranks_.wait),
                                 {.num_ubatches = own.num_ubatches,
                                  .phase = ranks_.experiment.workload.phase,
                                  .prefill_threshold = context_.policy.thresholds.prefill,
                                  .decode_threshold = context_.policy.thresholds.decode});
    if (decision.ubatched || own.num_ubatches == 1) {
      return {decision, own, split_, 0};
    }
    return {decision, context_.schedules.plain, whole_, 1};
  }

  void report_progress(int finished) const {
    const auto& execution = context_.policy.execution;
    if (context_.on_iteration) {
      context_.on_iteration(finished, execution.warmup + execution.iterations);
    }
  }

  void take_step(const AgreedStep& step, PassKind pass, OpTimes* times) {
    step_.begin(step.slices, pass);
    runner_.run(step.schedule, step_, pass, times);
  }

  /// Returns whether a rank asks for a graceful stop.
  bool timed_iteration(int iteration) {
    context_.outputs.poison();
    const auto step = agree_on_step(context_.policy.execution.warmup + iteration);
    exchange_->reset_traffic();
    const auto start_ns = now_ns();
    take_step(step, PassKind::full, nullptr);
    const auto end_ns = now_ns();
    recorder_.write_step(iteration,
                         0,
                         end_ns - start_ns,
                         {.ubatched = step.decision.ubatched ? 1 : 0,
                          .graph = static_cast<std::int64_t>(GraphMode::none),
                          .schedule = step.schedule_index,
                          .reason = static_cast<std::int64_t>(step.decision.reason),
                          .veto_rank = step.decision.veto_rank});
    return step.decision.stop;
  }

  /// The three passes of a profiled iteration; the agreement before each makes the ranks start
  /// together.
  void profiled_iteration(int index) {
    for (const auto pass : kPasses) {
      const auto step = agree_on_step(-1);
      exchange_->reset_traffic();
      times_.reset(step.schedule.ops.size());
      const auto start_ns = now_ns();
      take_step(step, pass, &times_);
      recorder_.write_profiled_pass(index,
                                    {.pass = pass,
                                     .step_start_ns = start_ns,
                                     .step_end_ns = now_ns(),
                                     .op_start_ns = times_.start_ns,
                                     .op_end_ns = times_.end_ns});
      if (pass == PassKind::full) {
        recorder_.write_profiled_host(index,
                                      {.schedule = step.schedule_index,
                                       .enqueued_ns = times_.enqueued_ns,
                                       .hand_off_wait_ns = times_.hand_off_wait_ns,
                                       .counts_wait_ns = exchange_->traffic().counts_wait_ns});
      }
    }
  }

  void record_outputs() {
    const auto& outputs = context_.outputs;
    const auto& record = ranks_.experiment.record;
    const auto write = [this](const std::string& dataset, const at::Tensor& tensor) {
      recorder_.write(dataset, from_torch(tensor.scalar_type()), bytes_of(tensor));
    };
    if (record.has(RecordedOutput::hidden)) {
      write("/output/hidden", outputs.hidden);
    }
    if (record.has(RecordedOutput::logits)) {
      write("/output/logits", outputs.logits);
    }
    if (record.has(RecordedOutput::logits_all)) {
      write("/output/logits_all", outputs.logits_all);
    }
    for (std::size_t layer = 0; layer < outputs.layers.size(); ++layer) {
      write("/output/layer_" + std::to_string(layer), outputs.layers[layer]);
    }
    if (record.has(RecordedOutput::routing)) {
      write(path::kExpertIds, outputs.expert_ids);
      write(path::kMargin, outputs.margin);
    }
  }

  /// Traffic of the last timed step.
  void record_traffic() {
    const auto& traffic = exchange_->traffic();
    recorder_.write_scalar(path::kDispatchWireBytes, traffic.dispatch_wire_bytes);
    recorder_.write_scalar(path::kCombineWireBytes, traffic.combine_wire_bytes);
    recorder_.write_scalar(path::kDispatchLogicalBytes, traffic.dispatch_logical_bytes);
    recorder_.write_scalar(path::kCombineLogicalBytes, traffic.combine_logical_bytes);
    recorder_.write_scalar(path::kTrafficCountsWaitNs, traffic.counts_wait_ns);
    recorder_.write(path::kTokensPerExpert, traffic.tokens_per_expert);
  }

  const PolicyRunContext& context_;
  const RankContext& ranks_;
  RankRecorder& recorder_;
  std::vector<UbatchSlice> split_;
  std::vector<UbatchSlice> whole_;
  std::uint64_t digest_ = 0;
  KvCache cache_;
  std::atomic<bool> exchange_cancelled_{false};
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<InjectedFault> fault_;
  ModelStep step_;
  HostExecutor executor_;
  Runner runner_;
  OpTimes times_;
};

/// Tells all ranks, marks the file, ends the process.
[[noreturn]] void end_failed(const PolicyRunContext& context,
                             RankRecorder& recorder,
                             int exit_code,
                             const std::string& message) {
  auto& failures = context.rank_context.failures;
  if (context.rank_context.signals.interrupt_requested()) {
    failures.report_interrupt(exit_code, message);
  } else {
    failures.report(exit_code, message);
  }
  try {
    recorder.finish(RunStatus::failed, message);
  } catch (const std::exception& error) {
    log_line(std::string("the result file could not be marked as failed: ") + error.what());
  }
  failures.end();
}

std::string name_policy(const PolicyRunContext& context, const std::string& message) {
  return "policy " + context.policy.name + ": " + message;
}

}  // namespace

PolicyRunResult run_policy(const PolicyRunContext& context, RankRecorder& recorder) {
  PolicyRun run(context, recorder);
  // Handlers run while `run` is alive: its threads may be stuck in an op, and joining them could
  // take for ever.
  try {
    const auto result = run.run();
    recorder.finish(RunStatus::complete);
    return result;
  } catch (const OpError& error) {
    auto place = error.place();
    place.rank = context.rank_context.rank().value;
    const OpError placed(place, error.detail());
    end_failed(context, recorder, placed.exit_code(), name_policy(context, placed.what()));
  } catch (const Error& error) {
    end_failed(context, recorder, error.exit_code(), name_policy(context, error.what()));
  } catch (const std::exception& error) {
    end_failed(context, recorder, kExitRunFailure, name_policy(context, error.what()));
  }
}

}  // namespace dovetail
