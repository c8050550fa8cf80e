#include "framework/run/policy_checks.hpp"

#include <array>
#include <vector>

#include "framework/base/clock.hpp"

namespace dovetail {
namespace {

constexpr std::array<PassKind, 3> kPasses = {
    PassKind::full, PassKind::compute_only, PassKind::comm_only};

}  // namespace

void PolicyChecks::run_with_poisoned_exchange() {
  const bool verifies = setup_.run.experiment.verify.mode != VerifyMode::none;
  for (int variant = 0; verifies && variant < setup_.workload.num_variants; ++variant) {
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

void PolicyChecks::profile() {
  for (int i = 0; i < setup_.run.experiment.record.profiled_iterations; ++i) {
    const int variant = i % setup_.workload.num_variants;
    for (int step = 0; step < num_steps(); ++step) {
      profiled_step(variant, step, i, i * num_steps() + step);
      if (step + 1 < num_steps()) {
        // The pass without the exchange has left other keys and values behind than later steps
        // must read.
        steps_.take({.step = step_of(variant, step)}, kNoIteration);
      }
    }
  }
}

/// The three passes of a profiled step; the agreement before each makes the ranks start together.
/// One that is not recorded comes first, and keeps what the passes that leave something out need: a
/// pass of the exchange alone leaves cores idle and caches cold, and the pass behind it would be
/// slower than the timed steps that it is to explain.
void PolicyChecks::profiled_step(int variant, int step, int iteration, int index) {
  const int place = step_of(variant, step);
  const auto& execution = setup_.policy.execution;
  const int counted = execution.warmup + execution.iterations + iteration;  // for injected faults
  steps_.take({.step = place, .keep_plans = true}, kNoIteration);
  for (const auto pass : kPasses) {
    const auto agreed = steps_.prepare({.step = place, .pass = pass, .is_profiled = true}, counted);
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

}  // namespace dovetail
