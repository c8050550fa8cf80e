#include "framework/run/policy_engine.hpp"

#include "framework/mpi/agree.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/split.hpp"

namespace dovetail {

PolicyEngine::PolicyEngine(const PolicyRunContext& context)
    : context_(context),
      ranks_(context.rank_context),
      wait_(policy_wait(context)),
      digest_(context.schedules.digest()) {
  if (ranks_.experiment.fault) {
    fault_ = std::make_unique<InjectedFault>(*ranks_.experiment.fault, ranks_.rank());
  }
  const auto rule = split_rule(context.policy.split,
                               context.model.dims().flops_per_token,
                               context.model.dims().flops_per_key);
  for (const auto& inputs : context.iteration.steps()) {
    splits_.push_back(split_batch(inputs.batch, rule, context.schedules.own.num_ubatches));
    wholes_.push_back(split_batch(inputs.batch, {}, 1));
  }
  driver_ = make_step_driver(context, fault_.get());
}

PolicyEngine::~PolicyEngine() = default;

void PolicyEngine::fill_context() {
  auto& iteration = context_.iteration;
  if (!iteration.is_context_filled()) {
    const auto& experiment = ranks_.experiment;
    if (experiment.workload.context == ContextFill::random) {
      fill_context_random(iteration.cache(),
                          context_.workload.steps.front(),
                          iteration.pages(),
                          context_.model.dims(),
                          experiment.workload.seed);
    }
    for (std::size_t i = 0; i < iteration.context_steps().size(); ++i) {
      wait_.on_poll();
      driver_->fill_context(static_cast<int>(i));
    }
    iteration.set_context_filled();
  }
  // Ranks with less context, or none, were done long ago.
  run_on_all_ranks(ranks_.groups.world, patient(wait_), [] {});
}

AgreedStep PolicyEngine::agree(int index, int iteration) {
  const auto step = static_cast<std::size_t>(index);
  wait_.on_poll();
  const auto& own = context_.schedules.own;
  if (fault_) {
    fault_->set_iteration(iteration);
  }
  const auto message = make_message(
      {.rank = ranks_.rank(),
       .batch = context_.iteration.steps().at(step).batch,
       .slices = splits_.at(step),
       .schedule_digest = digest_,
       .veto = fault_ && fault_->vetoes() ? VetoReason::rank_veto : VetoReason::none,
       .status = ranks_.signals.stop_requested() ? RankStatus::stop_requested : RankStatus::well,
       .graph_cache_digest = driver_->graph_cache_digest()});
  const auto decision = decide(
      dovetail::agree(ranks_.groups.agreement, message, wait_),
      {.num_ubatches = own.num_ubatches,
       .phase = ranks_.experiment.workload.phase,
       .prefill_threshold = context_.policy.thresholds.prefill,
       .decode_threshold = context_.policy.thresholds.decode,
       .step_times = context_.schedules.step_times ? &*context_.schedules.step_times : nullptr});
  if (decision.graphs_differ) {
    driver_->drop_graphs();
  }
  if (decision.ubatched || own.num_ubatches == 1) {
    return {decision, own, splits_.at(step), 0};
  }
  return {decision, context_.schedules.plain, wholes_.at(step), 1};
}

AgreedStep PolicyEngine::prepare(const StepPass& pass, int iteration) {
  const auto agreed = agree(pass.step, iteration);
  driver_->prepare(agreed, pass);
  if (context_.device.is_gpu()) {
    // Preparation takes ranks differently long, and they are to start together.
    run_on_all_ranks(ranks_.groups.world, wait_, [] {});
  }
  return agreed;
}

void PolicyEngine::take_step(const StepPass& pass, int iteration) {
  prepare(pass, iteration);
  driver_->run(nullptr);
  driver_->finish();
}

std::vector<std::int64_t> PolicyEngine::tokens_per_expert() {
  const auto experts_per_rank = context_.model.dims().num_experts / ranks_.grid.expert_parallel;
  std::vector<std::int64_t> counts(
      static_cast<std::size_t>(context_.model.shape().num_layers() * experts_per_rank), 0);
  for (int step = 0; step < num_steps(); ++step) {
    if (driver_->plans_cost_time()) {
      take_step({.step = step, .keep_plans = true}, -1);
    }
    driver_->add_tokens_per_expert(step, counts);
  }
  return counts;
}

}  // namespace dovetail
