#include "framework/run/policy_checks.hpp"

#include <algorithm>
#include <vector>

#include "framework/base/clock.hpp"
#include "framework/run/repeat_in_doubt.hpp"

namespace dovetail {
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

std::int64_t PolicyChecks::profile(int first, int end) {
  const auto& execution = setup_.policy.execution;
  const int behind_timed = execution.warmup + execution.iterations;
  for (int i = first; i < end; ++i) {
    const int variant = i % setup_.workload.num_variants;
    for (int step = 0; step < num_steps(); ++step) {
      const int seen = i / setup_.workload.num_variants;  // of the variant
      profiled_step({variant, step, behind_timed + i, i * num_steps() + step},
                    /*is_recorded_first=*/(variant + seen) % 2 != 0);
      if (step + 1 < num_steps()) {
        // The pass without the exchange has left other keys and values behind than later steps
        // must read.
        steps_.take({.step = step_of(variant, step)}, kNoIteration);
      }
    }
  }
  return most_doubt_ns_;
}

/// The passes of a profiled step; the agreement before each makes the ranks start together. One
/// that is not recorded comes first, and keeps what the passes that leave something out need. The
/// pass of the exchange alone comes last: it leaves cores idle and caches cold, and the pass behind
/// it would be slower than the timed steps that it is to explain. The step without times of ops is
/// beside the one with them, in turn before and behind it: a later step may be slower whatever it
/// records (a GPU gets warm), so that they differ by the recording and little else.
void PolicyChecks::profiled_step(const Place& place, bool is_recorded_first) {
  steps_.take({.step = step_of(place.variant, place.step), .keep_plans = true}, kNoIteration);
  if (!is_recorded_first) {
    profiled_pass(place, ProfilePass::unrecorded);
  }
  const bool enqueues_kernels = profiled_pass(place, ProfilePass::full).enqueues_kernels;
  if (is_recorded_first) {
    profiled_pass(place, ProfilePass::unrecorded);
  }
  if (enqueues_kernels) {
    profiled_pass(place, ProfilePass::full_gated, true);
  }
  const auto alone = profiled_pass(place, ProfilePass::compute_only);
  if (alone.sms_left_out > 0) {
    profiled_pass(place, ProfilePass::all_sms, alone.enqueues_kernels);
  }
  if (alone.enqueues_kernels) {
    profiled_pass(place, ProfilePass::gated, true);
  }
  profiled_pass(place, ProfilePass::comm_only);
}

PolicyChecks::PassRun PolicyChecks::run_pass(const Place& place, ProfilePass pass, bool is_gated) {
  const bool is_recorded = pass != ProfilePass::unrecorded;
  const auto agreed = steps_.prepare({.step = step_of(place.variant, place.step),
                                      .pass = ops_of(pass),
                                      .is_profiled = is_recorded,
                                      .all_sms = pass == ProfilePass::all_sms,
                                      .is_gated = is_gated},
                                     is_recorded ? place.iteration : kNoIteration);
  times_.reset(agreed.schedule.ops.size());
  PassRun ran;
  ran.schedule = agreed.schedule_index;
  ran.start_ns = now_ns();
  steps_.driver().run(is_recorded ? &times_ : nullptr);
  ran.end_ns = now_ns() - times_.reading_ns;
  ran.report = steps_.driver().finish();
  return ran;
}

/// A full pass in which the end of an op is in doubt runs again: its executor then takes this time
/// in another way.
StepReport PolicyChecks::profiled_pass(const Place& place, ProfilePass pass, bool is_gated) {
  PassRun ran;
  const auto run = [&] {
    ran = run_pass(place, pass, is_gated);
    return times_.doubt_ns > 0;
  };
  if (pass == ProfilePass::full && setup_.device.is_gpu()) {
    repeat_in_doubt(steps_.ranks().groups.world, steps_.ranks().wait, run);
  } else {
    run();
  }
  most_doubt_ns_ = std::max(most_doubt_ns_, times_.doubt_ns);
  recorder_.write_profiled_pass(place.index,
                                {.pass = pass,
                                 .step_start_ns = ran.start_ns,
                                 .step_end_ns = ran.end_ns,
                                 .op_start_ns = times_.start_ns,
                                 .op_end_ns = times_.end_ns});
  if (pass == ProfilePass::full) {
    hashes_.write_profiled(place.index, place.variant, place.step, ran.schedule);
    recorder_.write_profiled_host(place.index,
                                  {.schedule = ran.schedule,
                                   .enqueued_ns = times_.enqueued_ns,
                                   .hand_off_wait_ns = times_.hand_off_wait_ns,
                                   .counts_wait_ns = ran.report.traffic.counts_wait_ns});
  }
  return ran.report;
}

}  // namespace dovetail
