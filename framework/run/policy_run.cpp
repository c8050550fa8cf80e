#include "framework/run/policy_run.hpp"

#include <exception>
#include <string>
#include <vector>

#include "framework/base/clock.hpp"
#include "framework/base/failure_text.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"
#include "framework/run/hash_record.hpp"
#include "framework/run/policy_checks.hpp"
#include "framework/run/policy_steps.hpp"
#include "framework/run/step_record.hpp"
#include "framework/step/kv_cache.hpp"

namespace dovetail {
namespace {

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

/// What runs the policy's steps, and what has to be kept between them. Members are in order of
/// creation.
class PolicyRun::Engine {
 public:
  Engine(const PolicyRunSetup& setup, RankRecorder& recorder)
      : setup_(setup),
        steps_(setup, setup.run.experiment.verify.mode != VerifyMode::none),
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

  void check() {
    PolicyChecks checks(setup_, steps_, recorder_, hashes_);
    checks.run_with_poisoned_exchange();
    checks.profile();
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
};

PolicyRun::PolicyRun(const PolicyRunSetup& setup, RankRecorder& recorder)
    : setup_(setup), recorder_(recorder) {}

PolicyRun::~PolicyRun() = default;

/// Handlers run while the engine is alive: its threads may be stuck in an op, and joining them
/// could take for ever.
template <class Work>
void PolicyRun::guarded(Work work) {
  try {
    work();
  } catch (const OpError& error) {
    auto place = error.place();
    place.rank = setup_.run.ranks.rank().value;
    const OpError placed(place, error.detail());
    end_failed(setup_, recorder_, placed.exit_code(), placed.what());
  } catch (const Error& error) {
    end_failed(setup_, recorder_, error.exit_code(), error.what());
  } catch (const std::exception& error) {
    end_failed(setup_, recorder_, kExitRunFailure, failure_text(error));
  }
}

void PolicyRun::begin() {
  guarded([&] {
    engine_ = std::make_unique<Engine>(setup_, recorder_);
    engine_->fill_context();
    engine_->warm_up();
  });
}

bool PolicyRun::run_to(int end) {
  bool stopped = false;
  guarded([&] {
    while (finished_ < end && !stopped) {
      stopped = engine_->timed_iteration(finished_++);
    }
  });
  return stopped;
}

void PolicyRun::record_timed() {
  guarded([&] { engine_->record_timed_iterations(); });
}

void PolicyRun::conclude(bool stopped) {
  guarded([&] {
    if (!stopped) {
      engine_->check();
    }
    engine_->record_end();
    finish(setup_, recorder_, finished_);
    engine_.reset();
  });
}

bool run_policy(const PolicyRunSetup& setup, RankRecorder& recorder) {
  PolicyRun run(setup, recorder);
  run.begin();
  const bool stopped = run.run_to(setup.policy.execution.iterations);
  run.record_timed();
  run.conclude(stopped);
  return stopped;
}

}  // namespace dovetail
