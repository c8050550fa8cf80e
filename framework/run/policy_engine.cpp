#include "framework/run/policy_engine.hpp"

#include <algorithm>

#include "framework/base/clock.hpp"
#include "framework/run/policy_checks.hpp"
#include "framework/run/step_record.hpp"
#include "framework/step/kv_cache.hpp"

namespace dovetail {

PolicyEngine::PolicyEngine(const PolicyRunSetup& setup,
                           RankRecorder& recorder,
                           HashRecord& hashes,
                           HostLead& host_lead)
    : setup_(setup),
      steps_(setup, host_lead, setup.run.experiment.verify.mode != VerifyMode::none),
      recorder_(recorder),
      hashes_(hashes) {}

void PolicyEngine::fill_context() {
  auto& iteration = setup_.iteration;
  if (!iteration.is_context_filled()) {
    const auto& workload = setup_.run.experiment.workload;
    if (workload.context == ContextFill::random) {
      for (int variant = 0; variant < setup_.workload.num_variants; ++variant) {
        fill_context_random(iteration.cache(),
                            setup_.workload.steps.at(static_cast<std::size_t>(step_of(variant, 0))),
                            iteration.pages_of(variant),
                            setup_.model.dims(),
                            workload.seed);
      }
    }
    for (std::size_t i = 0; i < iteration.context_steps().size(); ++i) {
      steps_.ranks().wait.on_poll();
      steps_.driver().fill_context(static_cast<int>(i),
                                   iteration.begin_context_step(setup_.model, context_selection()));
      iteration.end_context_step();
    }
    iteration.set_context_filled();
  }
  if (context_selection().routing) {
    record_context_routing(setup_.workload, iteration, recorder_);
  }
  // Ranks with less context, or none, were done long ago.
  steps_.meet(patient(steps_.ranks().wait));
  hashes_.begin_turn();
}

void PolicyEngine::warm_up_again(int iterations, int finished) {
  const int variant = variant_of(setup_.policy.execution.warmup + finished);
  for (int i = 0; i < iterations; ++i) {
    for (int step = 0; step < num_steps(); ++step) {
      steps_.take({.step = step_of(variant, step)}, kNoIteration);
    }
  }
}

void PolicyEngine::run_each_variant() {
  for (int variant = 0; variant < setup_.workload.num_variants; ++variant) {
    setup_.iteration.poison_steps(variant);
    for (int step = 0; step < num_steps(); ++step) {
      steps_.take({.step = step_of(variant, step)}, kNoIteration);
    }
  }
}

void PolicyEngine::warm_up() {
  for (int i = 0; i < setup_.policy.execution.warmup; ++i) {
    for (int step = 0; step < num_steps(); ++step) {
      steps_.take({.step = step_of(variant_of(i), step)}, i);
    }
    report_progress(i + 1);
  }
}

bool PolicyEngine::timed_iteration(int iteration, int round, std::vector<std::int64_t>& step_ns) {
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
    recorder_.write_before(iteration, step, steps_.before());
    recorder_.write_start(iteration, step, round, start_ns);
    step_ns.push_back(end_ns - start_ns);
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

void PolicyEngine::record_timed_iterations() {
  record_outputs(setup_.run.experiment.record, setup_.outputs, recorder_);
  record_kv(setup_.run.experiment.record, setup_.iteration, recorder_);
  recorder_.write_memory(steps_.driver().report().memory);
  record_traffic(traffic_, tokens_per_expert(), recorder_);
}

void PolicyEngine::check() {
  PolicyChecks(setup_, steps_, recorder_, hashes_).run_with_poisoned_exchange();
}

void PolicyEngine::profile(int first, int end) {
  const auto doubt_ns = PolicyChecks(setup_, steps_, recorder_, hashes_).profile(first, end);
  most_doubt_ns_ = std::max(most_doubt_ns_, doubt_ns);
}

DriverReport PolicyEngine::report() {
  auto report = steps_.driver().report();
  report.device_clock_error_ns += most_doubt_ns_;
  return report;
}

OutputSelection PolicyEngine::context_selection() const {
  return {.logits = false,
          .routing = setup_.run.experiment.record.has(RecordedOutput::routing),
          .replays_routing = !setup_.given.context_expert_ids.empty()};
}

void PolicyEngine::report_progress(int finished) const {
  const auto& execution = setup_.policy.execution;
  if (setup_.on_iteration) {
    setup_.on_iteration(finished, execution.warmup + execution.iterations);
  }
}

std::vector<std::int64_t> PolicyEngine::tokens_per_expert() {
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

}  // namespace dovetail
