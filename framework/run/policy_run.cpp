#include "framework/run/policy_run.hpp"

#include <array>
#include <exception>
#include <optional>
#include <string>

#include "framework/base/log.hpp"
#include "framework/run/policy_engine.hpp"
#include "framework/run/step_record.hpp"

namespace dovetail {
namespace {

constexpr std::array<PassKind, 3> kPasses = {
    PassKind::full, PassKind::compute_only, PassKind::comm_only};

/// One policy on one rank, from the first warm-up step to the last profiled one. Members are in
/// order of creation.
class PolicyRun {
 public:
  PolicyRun(const PolicyRunContext& context, RankRecorder& recorder)
      : context_(context), ranks_(context.rank_context), recorder_(recorder), engine_(context) {}

  PolicyRunResult run() {
    const auto& execution = context_.policy.execution;
    engine_.fill_context();
    for (int i = 0; i < execution.warmup; ++i) {
      for (int step = 0; step < engine_.num_steps(); ++step) {
        engine_.take_step({.step = step}, i);
      }
      report_progress(i + 1);
    }
    PolicyRunResult result;
    while (result.finished_iterations < execution.iterations && !result.stopped) {
      result.stopped = timed_iteration(result.finished_iterations++);
      report_progress(execution.warmup + result.finished_iterations);
    }
    record_timed_iterations();
    const auto& record = ranks_.experiment.record;
    for (int i = 0; record.timing == TimingDetail::ops && i < record.profiled_iterations; ++i) {
      profiled_iteration(i);
    }
    driver().record_graphs(recorder_);
    return result;
  }

 private:
  StepDriver& driver() { return engine_.driver(); }

  void report_progress(int finished) const {
    const auto& execution = context_.policy.execution;
    if (context_.on_iteration) {
      context_.on_iteration(finished, execution.warmup + execution.iterations);
    }
  }

  /// Returns whether a rank asks for a graceful stop.
  bool timed_iteration(int iteration) {
    for (auto& outputs : context_.outputs) {
      outputs.poison();
    }
    context_.iteration.poison_steps();
    driver().poison();
    driver().exchange().meter().reset();
    bool stop = false;
    for (int step = 0; step < engine_.num_steps(); ++step) {
      const auto agreed =
          engine_.prepare({.step = step}, context_.policy.execution.warmup + iteration);
      const auto start_ns = now_ns();
      const auto facts = driver().run(nullptr);
      const auto end_ns = now_ns();
      driver().finish();
      recorder_.write_step(iteration,
                           step,
                           end_ns - start_ns,
                           {.ubatched = agreed.decision.ubatched ? 1 : 0,
                            .graph = static_cast<std::int64_t>(facts.graph),
                            .schedule = agreed.schedule_index,
                            .reason = static_cast<std::int64_t>(agreed.decision.reason),
                            .veto_rank = agreed.decision.veto_rank,
                            .eager_reason = static_cast<std::int64_t>(facts.eager_reason),
                            .captured = facts.captured ? 1 : 0},
                           facts.enqueue_ns);
      stop = stop || agreed.decision.stop;
    }
    return stop;
  }

  /// What the timed iterations have left.
  void record_timed_iterations() {
    record_outputs(ranks_.experiment.record, context_.outputs, recorder_);
    const auto traffic = driver().exchange().meter().traffic();
    driver().record_memory(recorder_);
    record_traffic(traffic, engine_.tokens_per_expert(), recorder_);
  }

  void profiled_iteration(int iteration) {
    for (int step = 0; step < engine_.num_steps(); ++step) {
      profiled_step(step, iteration * engine_.num_steps() + step);
      if (step + 1 < engine_.num_steps()) {
        // The pass without the exchange has left other keys and values behind than later steps
        // must read.
        engine_.take_step({.step = step}, -1);
      }
    }
  }

  /// The three passes of a profiled step; the agreement before each makes the ranks start together.
  /// One that is not recorded comes first, and keeps what the passes that leave something out need:
  /// a pass of the exchange alone leaves cores idle and caches cold, and the pass behind it would
  /// be slower than the timed steps that it is to explain.
  void profiled_step(int step, int index) {
    engine_.take_step({.step = step, .keep_plans = true}, -1);
    for (const auto pass : kPasses) {
      const auto agreed = engine_.prepare({.step = step, .pass = pass, .is_profiled = true}, -1);
      driver().exchange().meter().reset();
      times_.reset(agreed.schedule.ops.size());
      const auto start_ns = now_ns();
      driver().run(&times_);
      const auto end_ns = now_ns();
      driver().finish();
      recorder_.write_profiled_pass(index,
                                    {.pass = pass,
                                     .step_start_ns = start_ns,
                                     .step_end_ns = end_ns,
                                     .op_start_ns = times_.start_ns,
                                     .op_end_ns = times_.end_ns});
      if (pass == PassKind::full) {
        recorder_.write_profiled_host(
            index,
            {.schedule = agreed.schedule_index,
             .enqueued_ns = times_.enqueued_ns,
             .hand_off_wait_ns = times_.hand_off_wait_ns,
             .counts_wait_ns = driver().exchange().meter().traffic().counts_wait_ns});
      }
    }
  }

  const PolicyRunContext& context_;
  const RankContext& ranks_;
  RankRecorder& recorder_;
  PolicyEngine engine_;
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
  // Handlers run while `run` is alive: its threads may be stuck in an op, and joining them could
  // take for ever.
  std::optional<PolicyRun> run;
  try {
    run.emplace(context, recorder);
    const auto result = run->run();
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
