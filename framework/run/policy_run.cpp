#include "framework/run/policy_run.hpp"

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "framework/base/failure_text.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"
#include "framework/plan/rounds.hpp"
#include "framework/run/clock_record.hpp"
#include "framework/run/hash_record.hpp"
#include "framework/run/policy_engine.hpp"

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
  if (setup.on_failure) {
    setup.on_failure(message);
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

/// Memory is that of the engine that was made last.
void add(DriverReport& sum, const DriverReport& report) {
  sum.memory = report.memory;
  sum.graphs += report.graphs;
  sum.device_clock_error_ns = std::max(sum.device_clock_error_ns, report.device_clock_error_ns);
  sum.most_roundings.resize(report.most_roundings.size(), 0);
  std::transform(report.most_roundings.begin(),
                 report.most_roundings.end(),
                 sum.most_roundings.begin(),
                 sum.most_roundings.begin(),
                 [](float one, float other) { return std::max(one, other); });
}

/// Marks the file as what the policy has come to.
void finish(const PolicyRunSetup& setup,
            RankRecorder& recorder,
            int finished_iterations,
            bool is_enough) {
  const int all = setup.policy.execution.iterations;
  recorder.set_attribute(path::kTiming, {attribute::kIterationsRun, finished_iterations});
  if (finished_iterations == all || is_enough) {
    recorder.finish(RunStatus::complete);
  } else {
    recorder.finish(RunStatus::stopped,
                    "asked to stop after " + std::to_string(finished_iterations) + " of " +
                        counted(all, "timed iteration"));
  }
}

}  // namespace

PolicyRun::PolicyRun(const PolicyRunSetup& setup, RankRecorder& recorder)
    : setup_(setup),
      recorder_(recorder),
      clock_(std::make_unique<ClockRecord>(setup.run, recorder, setup.num_rounds)) {}

PolicyRun::~PolicyRun() = default;

/// Handlers run while the engine is alive: its threads may be stuck in an op, and joining them
/// could take for ever.
template <class Work>
void PolicyRun::guarded(Work work) {
  try {
    setup_.run.failures.set_report_folder(recorder_.path().parent_path());
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
    hashes_ =
        std::make_unique<HashRecord>(setup_.workload, setup_.iteration, setup_.outputs, recorder_);
    engine_ = std::make_unique<PolicyEngine>(setup_, recorder_, *hashes_, host_lead_);
    engine_->fill_context();
    engine_->warm_up();
  });
}

/// Where other policies have run since: warms up, so that nothing is timed that they have left.
void PolicyRun::enter() {
  if (!std::exchange(has_left_, false)) {
    return;
  }
  hashes_->begin_turn();
  int warmup = setup_.policy.execution.warmup;
  if (engine_) {
    warmup = std::min(kRoundWarmup, warmup);
  } else {
    engine_ = std::make_unique<PolicyEngine>(setup_, recorder_, *hashes_, host_lead_);
  }
  engine_->warm_up_again(warmup, finished_);
}

void PolicyRun::run_each_variant() {
  guarded([&] { engine_->run_each_variant(); });
}

bool PolicyRun::run_round(const PolicyRound& round) {
  bool stopped = false;
  guarded([&] {
    enter();
    if (round_ != round.index) {
      round_ = round.index;
      recorder_.write_round_place(round.index, round.place);
      clock_->estimate(std::int64_t{2} * round.index);
    }
    while (finished_ < round.end && !stopped) {
      stopped = engine_->timed_iteration(finished_++, round.index, step_ns_);
    }
    clock_->estimate(std::int64_t{2} * round.index + 1);
  });
  return stopped;
}

void PolicyRun::profile_until(int end) {
  engine_->profile(profiled_, end);
  profiled_ = end;
}

void PolicyRun::profile_round(int round) {
  const auto& record = setup_.run.experiment.record;
  const int end = record.profiled_iterations * (round + 1) / setup_.num_rounds;
  if (record.timing == TimingDetail::ops && end > profiled_) {
    guarded([&] {
      profile_until(end);
      engine_->run_each_variant();
    });
  }
}

void PolicyRun::leave(bool frees_engine) {
  guarded([&] {
    hashes_->end_turn();
    has_left_ = true;
    if (frees_engine) {
      add(report_, engine_->report());
      engine_.reset();
    }
  });
}

void PolicyRun::record_timed() {
  guarded([&] { engine_->record_timed_iterations(); });
}

void PolicyRun::conclude(bool stopped, bool is_enough) {
  guarded([&] {
    if (!stopped) {
      enter();
      engine_->check();
      if (setup_.run.experiment.record.timing == TimingDetail::ops) {
        clock_->estimate(std::int64_t{2} * setup_.num_rounds);
        profile_until(setup_.run.experiment.record.profiled_iterations);
        clock_->estimate(std::int64_t{2} * setup_.num_rounds + 1);
        clock_->write_offset();
      }
    }
    if (!has_left_) {
      hashes_->end_turn();
    }
    hashes_->write_untouched_after();
    if (engine_) {
      add(report_, engine_->report());
    }
    recorder_.write_graph_counters(report_.graphs);
    recorder_.write(path::kMostRoundings, report_.most_roundings);
    recorder_.set_attribute(path::kTiming,
                            {attribute::kDeviceClockErrorNs, report_.device_clock_error_ns});
    finish(setup_, recorder_, finished_, is_enough);
    engine_.reset();
  });
}

bool run_policy(const PolicyRunSetup& setup, RankRecorder& recorder) {
  PolicyRun run(setup, recorder);
  run.begin();
  const bool stopped = run.run_round({.end = setup.policy.execution.iterations});
  run.record_timed();
  run.conclude(stopped);
  return stopped;
}

}  // namespace dovetail
