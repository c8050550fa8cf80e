#include "framework/run/policy_run.hpp"

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/step_record.hpp"
#include "framework/step/kv_cache.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {
namespace {

constexpr std::array<PassKind, 3> kPasses = {
    PassKind::full, PassKind::compute_only, PassKind::comm_only};

/// In which no fault happens.
constexpr int kNoIteration = -1;

Ranks with_timeout(Ranks ranks, int timeout_s) {
  ranks.wait.timeout = std::chrono::seconds(timeout_s);
  return ranks;
}

/// One policy on one rank, from the context to the last profiled step. Members are in order of
/// creation.
class PolicyRun {
 public:
  PolicyRun(const PolicyRunSetup& setup, RankRecorder& recorder)
      : setup_(setup),
        ranks_(with_timeout(setup.run.ranks, setup.policy.execution.timeout_s)),
        schedules_(setup.resolved.schedules),
        digest_(schedules_.digest()),
        rule_(agreement_rule(
            setup.policy, schedules_, setup.run.experiment.workload.phase, setup.resolved.bounds)),
        cuts_(cut_steps(setup.workload.steps, setup.resolved.split, schedules_.own.num_ubatches)),
        recorder_(recorder) {
    if (const auto* fault = fault_of(setup.run.experiment, setup.policy.name)) {
      fault_.emplace(*fault, ranks_.rank(), setup.device.device());
    }
    driver_ = make_step_driver({.ranks = ranks_,
                                .device = setup.device,
                                .execution = setup.policy.execution,
                                .resolved = setup.resolved.execution,
                                .workload = setup.run.experiment.workload,
                                .schedules = schedules_,
                                .model = setup.model,
                                .given = setup.given,
                                .iteration = setup.iteration,
                                .outputs = setup.outputs,
                                .fault = fault_ ? &*fault_ : nullptr});
  }

  /// Fills the KV cache up to the requests' contexts, unless an earlier policy has; not over an
  /// emulated link. Waits until all ranks are there.
  void fill_context() {
    auto& iteration = setup_.iteration;
    if (!iteration.is_context_filled()) {
      const auto& workload = setup_.run.experiment.workload;
      if (workload.context == ContextFill::random) {
        fill_context_random(iteration.cache(),
                            setup_.workload.steps.front(),
                            iteration.pages(),
                            setup_.model.dims(),
                            workload.seed);
      }
      for (std::size_t i = 0; i < iteration.context_steps().size(); ++i) {
        ranks_.wait.on_poll();
        driver_->fill_context(static_cast<int>(i));
      }
      iteration.set_context_filled();
    }
    // Ranks with less context, or none, were done long ago.
    meet(patient(ranks_.wait));
  }

  void warm_up() {
    for (int i = 0; i < setup_.policy.execution.warmup; ++i) {
      for (int step = 0; step < num_steps(); ++step) {
        take_step({.step = step}, i);
      }
      report_progress(i + 1);
    }
  }

  /// Returns whether a rank asks for a graceful stop.
  bool timed_iteration(int iteration) {
    setup_.iteration.poison_steps();
    traffic_ = {};
    bool stop = false;
    for (int step = 0; step < num_steps(); ++step) {
      const auto agreed = prepare({.step = step}, setup_.policy.execution.warmup + iteration);
      const auto start_ns = now_ns();
      driver_->run(nullptr);
      const auto end_ns = now_ns();
      const auto report = driver_->finish();
      traffic_ += report.traffic;
      recorder_.write_step(iteration,
                           step,
                           end_ns - start_ns,
                           {.ubatched = agreed.decision.ubatched ? 1 : 0,
                            .graph = static_cast<std::int64_t>(report.graph),
                            .schedule = agreed.schedule_index,
                            .reason = static_cast<std::int64_t>(agreed.decision.reason),
                            .veto_rank = agreed.decision.veto_rank,
                            .eager_reason = static_cast<std::int64_t>(report.eager_reason),
                            .captured = report.captured ? 1 : 0},
                           report.enqueue_ns);
      stop = stop || agreed.decision.stop;
    }
    report_progress(setup_.policy.execution.warmup + iteration + 1);
    return stop;
  }

  /// What the timed iterations have left: of the last one.
  void record_timed_iterations() {
    record_outputs(setup_.run.experiment.record, setup_.outputs, recorder_);
    recorder_.write_memory(driver_->report().memory);
    record_traffic(traffic_, tokens_per_expert(), recorder_);
  }

  void profile() {
    const auto& record = setup_.run.experiment.record;
    for (int i = 0; record.timing == TimingDetail::ops && i < record.profiled_iterations; ++i) {
      for (int step = 0; step < num_steps(); ++step) {
        profiled_step(step, i * num_steps() + step);
        if (step + 1 < num_steps()) {
          // The pass without the exchange has left other keys and values behind than later steps
          // must read.
          take_step({.step = step}, kNoIteration);
        }
      }
    }
  }

  /// Of all steps, behind the last one.
  void record_graphs() {
    const auto report = driver_->report();
    recorder_.write_graph_counters(report.graphs);
    recorder_.set_attribute(path::kTiming,
                            {attribute::kDeviceClockErrorNs, report.device_clock_error_ns});
  }

 private:
  int num_steps() const { return static_cast<int>(cuts_.size()); }

  void meet(const WaitPolicy& wait) const {
    run_on_all_ranks(ranks_.groups.world, wait, [] {});
  }

  void report_progress(int finished) const {
    const auto& execution = setup_.policy.execution;
    if (setup_.on_iteration) {
      setup_.on_iteration(finished, execution.warmup + execution.iterations);
    }
  }

  /// Agrees on a step and makes it ready to run. Iterations count over warm-up and timed ones.
  AgreedStep prepare(const StepPass& pass, int iteration) {
    const auto step = static_cast<std::size_t>(pass.step);
    ranks_.wait.on_poll();
    if (fault_) {
      fault_->set_iteration(iteration);
    }
    const bool stops = setup_.run.signals.stop_requested();
    const auto message =
        make_message({.rank = ranks_.rank(),
                      .batch = setup_.workload.steps.at(step).batch,
                      .slices = cuts_.at(step).split,
                      .schedule_digest = digest_,
                      .veto = fault_ && fault_->vetoes() ? VetoReason::rank_veto : VetoReason::none,
                      .status = stops ? RankStatus::stop_requested : RankStatus::well,
                      .graph_cache_digest = driver_->graph_cache_digest()});
    const auto agreed = agree_on_step(
        agree(ranks_.groups.agreement, message, ranks_.wait), rule_, schedules_, cuts_.at(step));
    driver_->prepare(agreed, pass);
    if (setup_.device.is_gpu()) {
      // Preparation takes ranks differently long, and they are to start together.
      meet(ranks_.wait);
    }
    return agreed;
  }

  /// A step of which nothing but its effect is wanted.
  void take_step(const StepPass& pass, int iteration) {
    prepare(pass, iteration);
    driver_->run(nullptr);
    driver_->finish();
  }

  /// The three passes of a profiled step; the agreement before each makes the ranks start together.
  /// One that is not recorded comes first, and keeps what the passes that leave something out need:
  /// a pass of the exchange alone leaves cores idle and caches cold, and the pass behind it would
  /// be slower than the timed steps that it is to explain.
  void profiled_step(int step, int index) {
    take_step({.step = step, .keep_plans = true}, kNoIteration);
    for (const auto pass : kPasses) {
      const auto agreed = prepare({.step = step, .pass = pass, .is_profiled = true}, kNoIteration);
      times_.reset(agreed.schedule.ops.size());
      const auto start_ns = now_ns();
      driver_->run(&times_);
      const auto end_ns = now_ns();
      const auto report = driver_->finish();
      recorder_.write_profiled_pass(index,
                                    {.pass = pass,
                                     .step_start_ns = start_ns,
                                     .step_end_ns = end_ns,
                                     .op_start_ns = times_.start_ns,
                                     .op_end_ns = times_.end_ns});
      if (pass == PassKind::full) {
        recorder_.write_profiled_host(index,
                                      {.schedule = agreed.schedule_index,
                                       .enqueued_ns = times_.enqueued_ns,
                                       .hand_off_wait_ns = times_.hand_off_wait_ns,
                                       .counts_wait_ns = report.traffic.counts_wait_ns});
      }
    }
  }

  /// Rows that each expert of this rank computes, steps added up: [layers, experts_per_rank]
  /// row-major. Of one more pass over each step: timed ones do not keep what is counted.
  std::vector<std::int64_t> tokens_per_expert() {
    const auto experts_per_rank = setup_.model.dims().num_experts / ranks_.grid.expert_parallel;
    std::vector<std::int64_t> counts(
        static_cast<std::size_t>(setup_.model.shape().num_layers() * experts_per_rank), 0);
    for (int step = 0; step < num_steps(); ++step) {
      take_step({.step = step, .keep_plans = true}, kNoIteration);
      driver_->add_tokens_per_expert(counts);
    }
    return counts;
  }

  const PolicyRunSetup& setup_;
  const Ranks ranks_;  ///< whose waits are bounded by the policy's own timeout_s
  const PolicySchedules& schedules_;
  const std::uint64_t digest_;
  const AgreementRule rule_;
  const std::vector<StepCuts> cuts_;  ///< of each step
  RankRecorder& recorder_;
  std::optional<InjectedFault> fault_;
  std::unique_ptr<StepDriver> driver_;
  Traffic traffic_;  ///< of the last timed iteration
  OpTimes times_;
};

/// Tells all ranks, marks the file, ends the process.
[[noreturn]] void end_failed(const PolicyRunSetup& setup,
                             RankRecorder& recorder,
                             int exit_code,
                             const std::string& problem) {
  const auto message = "policy " + setup.policy.name + ": " + problem;
  auto& failures = setup.run.failures;
  if (setup.run.signals.interrupt_requested()) {
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

/// Marks the file as what the policy has come to.
void finish(const PolicyRunSetup& setup, RankRecorder& recorder, int finished_iterations) {
  const int all = setup.policy.execution.iterations;
  if (finished_iterations == all) {
    recorder.finish(RunStatus::complete);
  } else {
    recorder.finish(RunStatus::stopped,
                    "asked to stop after " + std::to_string(finished_iterations) + " of " +
                        std::to_string(all) + " timed iterations");
  }
}

}  // namespace

bool run_policy(const PolicyRunSetup& setup, RankRecorder& recorder) {
  // Handlers run while `run` is alive: its threads may be stuck in an op, and joining them could
  // take for ever.
  std::optional<PolicyRun> run;
  try {
    run.emplace(setup, recorder);
    run->fill_context();
    run->warm_up();
    bool stopped = false;
    int finished = 0;
    while (finished < setup.policy.execution.iterations && !stopped) {
      stopped = run->timed_iteration(finished++);
    }
    run->record_timed_iterations();
    if (!stopped) {
      run->profile();
    }
    run->record_graphs();
    finish(setup, recorder, finished);
    return stopped;
  } catch (const OpError& error) {
    auto place = error.place();
    place.rank = setup.run.ranks.rank().value;
    const OpError placed(place, error.detail());
    end_failed(setup, recorder, placed.exit_code(), placed.what());
  } catch (const Error& error) {
    end_failed(setup, recorder, error.exit_code(), error.what());
  } catch (const std::exception& error) {
    end_failed(setup, recorder, kExitRunFailure, error.what());
  }
}

}  // namespace dovetail
