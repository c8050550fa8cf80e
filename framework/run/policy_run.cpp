#include "framework/run/policy_run.hpp"

#include <array>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "framework/base/clock.hpp"
#include "framework/base/failure_text.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"
#include "framework/run/hash_record.hpp"
#include "framework/run/policy_steps.hpp"
#include "framework/run/step_record.hpp"
#include "framework/step/kv_cache.hpp"

namespace dovetail {
namespace {

constexpr std::array<PassKind, 3> kPasses = {
    PassKind::full, PassKind::compute_only, PassKind::comm_only};

/// One policy on one rank, from the context to the last profiled step. Members are in order of
/// creation.
class PolicyRun {
 public:
  PolicyRun(const PolicyRunSetup& setup, RankRecorder& recorder)
      : setup_(setup),
        steps_(setup, verifies()),
        recorder_(recorder),
        hashes_(setup.workload, setup.iteration, setup.outputs, recorder) {}

  /// Fills the KV cache up to the requests' contexts, unless an earlier policy has; not over an
  /// emulated link. Waits until all ranks are there.
  void fill_context() {
    auto& iteration = setup_.iteration;
    if (!iteration.is_context_filled()) {
      const auto& workload = setup_.run.experiment.workload;
      if (workload.context == ContextFill::random) {
        for (int variant = 0; variant < setup_.workload.num_variants; ++variant) {
          fill_context_random(
              iteration.cache(),
              setup_.workload.steps.at(static_cast<std::size_t>(step_of(variant, 0))),
              iteration.pages_of(variant),
              setup_.model.dims(),
              workload.seed);
        }
      }
      for (std::size_t i = 0; i < iteration.context_steps().size(); ++i) {
        steps_.ranks().wait.on_poll();
        steps_.driver().fill_context(
            static_cast<int>(i), iteration.begin_context_step(setup_.model, context_selection()));
        iteration.end_context_step();
      }
      iteration.set_context_filled();
    }
    if (context_selection().routing) {
      record_context_routing(setup_.workload, iteration, recorder_);
    }
    // Ranks with less context, or none, were done long ago.
    steps_.meet(patient(steps_.ranks().wait));
    hashes_.write_untouched_before();
  }

  void warm_up() {
    for (int i = 0; i < setup_.policy.execution.warmup; ++i) {
      for (int step = 0; step < num_steps(); ++step) {
        steps_.take({.step = step_of(variant_of(i), step)}, i);
      }
      report_progress(i + 1);
    }
  }

  /// Returns whether a rank asks for a graceful stop.
  bool timed_iteration(int iteration) {
    const int counted = setup_.policy.execution.warmup + iteration;
    last_variant_ = variant_of(counted);
    setup_.iteration.poison_steps(last_variant_);
    traffic_ = {};
    bool stop = false;
    std::vector<int> schedules;
    for (int step = 0; step < num_steps(); ++step) {
      const auto agreed = steps_.prepare({.step = step_of(last_variant_, step)}, counted);
      const auto start_ns = now_ns();
      steps_.driver().run(nullptr);
      const auto end_ns = now_ns();
      const auto report = steps_.driver().finish();
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
      schedules.push_back(agreed.schedule_index);
      stop = stop || agreed.decision.stop;
    }
    hashes_.write_timed(iteration, last_variant_, schedules);
    report_progress(counted + 1);
    return stop;
  }

  /// What the timed iterations have left: outputs of the last one of each variant, traffic of the
  /// last one.
  void record_timed_iterations() {
    record_outputs(setup_.run.experiment.record, setup_.outputs, recorder_);
    record_kv(setup_.run.experiment.record, setup_.iteration, recorder_);
    recorder_.write_memory(steps_.driver().report().memory);
    record_traffic(traffic_, tokens_per_expert(), recorder_);
  }

  /// One more iteration of each variant, whose result must be that of the timed ones although what
  /// the exchange has used is gone at once.
  void run_with_poisoned_exchange() {
    for (int variant = 0; verifies() && variant < setup_.workload.num_variants; ++variant) {
      setup_.iteration.poison_steps(variant);
      std::vector<int> schedules;
      schedules.reserve(static_cast<std::size_t>(num_steps()));
      for (int step = 0; step < num_steps(); ++step) {
        schedules.push_back(
            steps_.take({.step = step_of(variant, step), .poison_exchange = true}, kNoIteration));
      }
      hashes_.write_poisoned(variant, schedules);
    }
  }

  void profile() {
    const auto& record = setup_.run.experiment.record;
    for (int i = 0; record.timing == TimingDetail::ops && i < record.profiled_iterations; ++i) {
      const int variant = variant_of(i);
      for (int step = 0; step < num_steps(); ++step) {
        profiled_step(variant, step, i * num_steps() + step);
        if (step + 1 < num_steps()) {
          // The pass without the exchange has left other keys and values behind than later steps
          // must read.
          steps_.take({.step = step_of(variant, step)}, kNoIteration);
        }
      }
    }
  }

  /// Of all steps, behind the last one.
  void record_end() {
    hashes_.write_untouched_after();
    const auto report = steps_.driver().report();
    recorder_.write_graph_counters(report.graphs);
    recorder_.set_attribute(path::kTiming,
                            {attribute::kDeviceClockErrorNs, report.device_clock_error_ns});
  }

 private:
  OutputSelection context_selection() const {
    return {.logits = false,
            .routing = setup_.run.experiment.record.has(RecordedOutput::routing),
            .replays_routing = !setup_.given.context_expert_ids.empty()};
  }

  bool verifies() const { return setup_.run.experiment.verify.mode != VerifyMode::none; }

  /// Of an iteration.
  int num_steps() const { return static_cast<int>(setup_.workload.steps_per_iteration()); }

  /// Of an iteration, counted over warm-up and timed ones.
  int variant_of(int iteration) const { return iteration % setup_.workload.num_variants; }

  /// A step of an iteration among the steps of all variants.
  int step_of(int variant, int step) const { return variant * num_steps() + step; }

  void report_progress(int finished) const {
    const auto& execution = setup_.policy.execution;
    if (setup_.on_iteration) {
      setup_.on_iteration(finished, execution.warmup + execution.iterations);
    }
  }

  /// The three passes of a profiled step; the agreement before each makes the ranks start together.
  /// One that is not recorded comes first, and keeps what the passes that leave something out need:
  /// a pass of the exchange alone leaves cores idle and caches cold, and the pass behind it would
  /// be slower than the timed steps that it is to explain.
  void profiled_step(int variant, int step, int index) {
    const int place = step_of(variant, step);
    steps_.take({.step = place, .keep_plans = true}, kNoIteration);
    for (const auto pass : kPasses) {
      const auto agreed =
          steps_.prepare({.step = place, .pass = pass, .is_profiled = true}, kNoIteration);
      times_.reset(agreed.schedule.ops.size());
      const auto start_ns = now_ns();
      steps_.driver().run(&times_);
      const auto end_ns = now_ns();
      const auto report = steps_.driver().finish();
      recorder_.write_profiled_pass(index,
                                    {.pass = pass,
                                     .step_start_ns = start_ns,
                                     .step_end_ns = end_ns,
                                     .op_start_ns = times_.start_ns,
                                     .op_end_ns = times_.end_ns});
      if (pass == PassKind::full) {
        hashes_.write_profiled(index, variant, step, agreed.schedule_index);
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
    const auto experts_per_rank =
        setup_.model.dims().num_experts / steps_.ranks().grid.expert_parallel;
    std::vector<std::int64_t> counts(
        static_cast<std::size_t>(setup_.model.shape().num_layers() * experts_per_rank), 0);
    for (int step = 0; step < num_steps(); ++step) {
      steps_.take({.step = step_of(last_variant_, step), .keep_plans = true}, kNoIteration);
      steps_.driver().add_tokens_per_expert(counts);
    }
    return counts;
  }

  const PolicyRunSetup& setup_;
  PolicySteps steps_;
  RankRecorder& recorder_;
  HashRecord hashes_;
  Traffic traffic_;       ///< of the last timed iteration
  int last_variant_ = 0;  ///< likewise
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
    // Where it is the file that failed, for example on a full disk, all is said.
    if (problem.find(recorder.path().string()) == std::string::npos) {
      log_line(std::string("the result file could not be marked as failed: ") + error.what());
    }
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
                        counted(all, "timed iteration"));
  }
}

}  // namespace

bool run_policy(const PolicyRunSetup& setup, RankRecorder& recorder) {
  // Handlers run while `run` is alive: its threads may be stuck in an op, and joining them could
  // take for ever.
  std::optional<PolicyRun> run;
  try {
    setup.run.failures.set_report_folder(recorder.path().parent_path());
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
      run->run_with_poisoned_exchange();
      run->profile();
    }
    run->record_end();
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
    end_failed(setup, recorder, kExitRunFailure, failure_text(error));
  }
}

}  // namespace dovetail
