#include "framework/run/policy_steps.hpp"

#include <chrono>

#include "framework/base/clock.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/run/experiment_points.hpp"

namespace dovetail {
namespace {

Ranks with_timeout(Ranks ranks, int timeout_s) {
  ranks.wait.timeout = std::chrono::seconds(timeout_s);
  return ranks;
}

}  // namespace

PolicySteps::PolicySteps(const PolicyRunSetup& setup, HostLead& host_lead, bool poisons_received)
    : setup_(setup),
      ranks_(with_timeout(setup.run.ranks, setup.policy.execution.timeout_s)),
      model_(setup.model.with_numerics(setup.policy.execution.numerics)),
      schedules_(setup.resolved.schedules),
      digest_(schedules_.digest()),
      rule_(agreement_rule(
          setup.policy, schedules_, setup.run.experiment.workload.phase, setup.resolved.bounds)),
      cuts_(cut_steps(setup.workload.steps, setup.resolved.split, schedules_.own.num_ubatches)) {
  if (const auto* fault = fault_of(setup.run.experiment, setup.policy.name)) {
    fault_.emplace(*fault, ranks_.rank(), setup.device.device());
  }
  setup.run.failures.board().set_activity("the context's fill");
  driver_ = make_step_driver({.ranks = ranks_,
                              .device = setup.device,
                              .execution = setup.policy.execution,
                              .resolved = setup.resolved.execution,
                              .workload = setup.run.experiment.workload,
                              .schedules = schedules_,
                              .model = *model_,
                              .given = setup.given,
                              .iteration = setup.iteration,
                              .outputs = setup.outputs,
                              .fault = fault_ ? &*fault_ : nullptr,
                              .board = &setup.run.failures.board(),
                              .host_lead = &host_lead,
                              .poisons_received = poisons_received});
}

const char* PolicySteps::activity_of(const StepPass& pass, int iteration) const {
  if (pass.is_profiled) {
    return "a profiled step";
  }
  if (iteration == kNoIteration) {
    return "a step behind the timed ones";
  }
  return iteration < setup_.policy.execution.warmup ? "a step of the warm-up" : "a timed step";
}

AgreedStep PolicySteps::prepare(const StepPass& pass, int iteration) {
  const auto begin_ns = now_ns();
  const auto step = static_cast<std::size_t>(pass.step);
  setup_.run.failures.board().set_activity(activity_of(pass, iteration), iteration, pass.step);
  ranks_.wait.on_poll();
  if (fault_) {
    fault_->set_iteration(iteration == kNoIteration ? InjectedFault::kNever : iteration);
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
  if (fault_) {
    fault_->check_step(agreed.schedule);
  }
  const auto agreed_ns = now_ns();
  driver_->prepare(agreed, pass);
  const auto prepared_ns = now_ns();
  before_ = {agreed_ns - begin_ns, prepared_ns - agreed_ns, 0};
  if (setup_.device.is_gpu()) {
    // Preparation takes ranks differently long, and they are to start together.
    meet(ranks_.wait);
    before_.meeting_ns = now_ns() - prepared_ns;
  }
  return agreed;
}

int PolicySteps::take(const StepPass& pass, int iteration) {
  const auto agreed = prepare(pass, iteration);
  driver_->run(nullptr);
  driver_->finish();
  return agreed.schedule_index;
}

void PolicySteps::meet(const WaitPolicy& wait) const {
  run_on_all_ranks(ranks_.groups.world, wait, [] {});
}

}  // namespace dovetail
