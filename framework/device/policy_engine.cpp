#include "framework/device/policy_engine.hpp"

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>

#include "framework/comm/exchange/emulated_link.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/exec/short_slice.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

std::unique_ptr<Exchange> make_policy_exchange(const PolicyRunContext& context,
                                               int num_ubatches,
                                               const std::optional<LinkConfig>& link,
                                               const WaitPolicy& wait) {
  const auto& ranks = context.rank_context;
  const auto& dims = context.model.dims();
  const ExchangeShape shape = {.ep_size = ranks.grid.expert_parallel,
                               .ep_rank = ranks.ep_rank().value,
                               .num_experts = dims.num_experts,
                               .top_k = dims.top_k,
                               .hidden = dims.hidden,
                               .dtype = dims.dtype,
                               .num_ubatches = num_ubatches};
  auto exchange = make_exchange(choose_exchange(context.policy.execution.exchange).name,
                                shape,
                                ranks.groups.exchange,
                                ranks.groups.counts,
                                wait);
  return link ? emulate_link(std::move(exchange), shape, *link, wait) : std::move(exchange);
}

/// A thread that spins takes the core of another rank's compute, unless each rank has cores for its
/// compute lane, its comm lane and the spinner.
bool may_spin(const RankContext& context) {
  return static_cast<int>(std::thread::hardware_concurrency()) >= 3 * context.session.local_size();
}

at::Tensor given_at(const std::vector<at::Tensor>& given, std::size_t index) {
  return given.empty() ? at::Tensor() : given.at(index);
}

}  // namespace

/// One step of the iteration: what its ops work on, and how it may be cut.
struct PolicyEngine::Step {
  Step(const PolicyRunContext& context,
       Exchange& exchange,
       const StepInputs& inputs,
       StepOutputs& outputs,
       at::Tensor expert_ids)
      : batch(inputs.batch),
        split(split_batch(inputs.batch,
                          split_rule(context.policy.split, context.model.dims()),
                          context.schedules.own.num_ubatches)),
        whole(split_batch(inputs.batch, {}, 1)),
        body(context.model, exchange, inputs, context.iteration.cache(), outputs) {
    body.replay_routing(std::move(expert_ids));
  }

  const Batch& batch;
  std::vector<UbatchSlice> split;
  std::vector<UbatchSlice> whole;
  ModelStep body;
};

/// A forward pass that fills a part of the context; only the keys and values that it leaves count.
struct PolicyEngine::ContextStep {
  ContextStep(const PolicyRunContext& context, Exchange& exchange, const StepInputs& inputs)
      : outputs(make_step_outputs(inputs,
                                  context.model.dims(),
                                  context.model.shape().num_layers(),
                                  {.logits = false},
                                  inputs.input_ids.device())),
        body(context.model, exchange, inputs, context.iteration.cache(), outputs) {}

  StepOutputs outputs;
  ModelStep body;
};

PolicyEngine::PolicyEngine(const PolicyRunContext& context)
    : context_(context),
      ranks_(context.rank_context),
      wait_(policy_wait()),
      digest_(context.schedules.digest()),
      exchange_(make_policy_exchange(context,
                                     context.schedules.own.num_ubatches,
                                     context.policy.execution.link,
                                     exchange_wait())),
      executor_({.timeout = wait_.timeout,
                 .thread_init =
                     [threads = at::get_num_threads()](int thread) {
                       at::set_num_threads(threads);
                       if (thread == HostExecutor::kCommThread) {
                         ask_for_short_slices();
                       }
                     },
                 .cancel_comm = [this] { exchange_cancelled_ = true; },
                 .may_spin = may_spin(ranks_)}),
      runner_(executor_,
              {.hand_off = context.policy.execution.hand_off,
               .timeout = wait_.timeout,
               .next_may_spin = may_spin(ranks_)}) {
  if (ranks_.experiment.fault) {
    fault_ = std::make_unique<InjectedFault>(*ranks_.experiment.fault, ranks_.rank());
  }
  const auto& inputs = context.iteration.steps();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    steps_.push_back(std::make_unique<Step>(context,
                                            *exchange_,
                                            inputs[i],
                                            context.outputs.at(i),
                                            given_at(context.given.expert_ids, i)));
    steps_.back()->body.set_fault(fault_.get());
  }
}

PolicyEngine::~PolicyEngine() = default;

WaitPolicy PolicyEngine::policy_wait() const {
  auto wait = ranks_.wait;
  wait.timeout = std::chrono::seconds(context_.policy.execution.timeout_s);
  return wait;
}

/// Also ends when the step has failed elsewhere on this rank.
WaitPolicy PolicyEngine::exchange_wait() {
  auto wait = wait_;
  wait.on_poll = [this, poll = wait.on_poll] {
    poll();
    if (exchange_cancelled_) {
      throw RunError("the step has failed on this rank");
    }
  };
  return wait;
}

void PolicyEngine::fill_context() {
  auto& iteration = context_.iteration;
  if (!iteration.is_context_filled()) {
    fill(iteration);
    iteration.set_context_filled();
  }
  // Ranks with less context, or none, were done long ago.
  run_on_all_ranks(ranks_.groups.world, patient(wait_), [] {});
}

void PolicyEngine::fill(Iteration& iteration) {
  const auto& experiment = ranks_.experiment;
  if (experiment.workload.context == ContextFill::random) {
    fill_context_random(iteration.cache(),
                        context_.workload.steps.front(),
                        iteration.pages(),
                        context_.model.dims(),
                        experiment.workload.seed);
  }
  const auto& inputs = iteration.context_steps();
  if (inputs.empty()) {
    return;
  }
  context_exchange_ = make_policy_exchange(context_, 1, std::nullopt, exchange_wait());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    wait_.on_poll();
    context_step_ = std::make_unique<ContextStep>(context_, *context_exchange_, inputs[i]);
    auto& body = context_step_->body;
    body.replay_routing(given_at(context_.given.context_expert_ids, i));
    body.begin(split_batch(inputs[i].batch, {}, 1), PassKind::full);
    runner_.run(context_.schedules.plain, body, PassKind::full, nullptr);
  }
  context_step_.reset();
  context_exchange_.reset();
}

AgreedStep PolicyEngine::agree_on_step(int index, int iteration) {
  const auto& step = *steps_.at(static_cast<std::size_t>(index));
  wait_.on_poll();
  const auto& own = context_.schedules.own;
  if (fault_) {
    fault_->set_iteration(iteration);
  }
  const auto message = make_message(
      {.rank = ranks_.rank(),
       .batch = step.batch,
       .slices = step.split,
       .schedule_digest = digest_,
       .veto = fault_ && fault_->vetoes() ? VetoReason::rank_veto : VetoReason::none,
       .status = ranks_.signals.stop_requested() ? RankStatus::stop_requested : RankStatus::well});
  const auto decision = decide(
      agree(ranks_.groups.agreement, message, wait_),
      {.num_ubatches = own.num_ubatches,
       .phase = ranks_.experiment.workload.phase,
       .prefill_threshold = context_.policy.thresholds.prefill,
       .decode_threshold = context_.policy.thresholds.decode,
       .step_times = context_.schedules.step_times ? &*context_.schedules.step_times : nullptr});
  if (decision.ubatched || own.num_ubatches == 1) {
    return {decision, own, step.split, 0};
  }
  return {decision, context_.schedules.plain, step.whole, 1};
}

void PolicyEngine::take_step(int step, const AgreedStep& agreed, PassKind pass, OpTimes* times) {
  auto& body = steps_.at(static_cast<std::size_t>(step))->body;
  body.begin(agreed.slices, pass);
  runner_.run(agreed.schedule, body, pass, times);
}

std::vector<std::int64_t> PolicyEngine::tokens_per_expert() const {
  const auto experts_per_rank = context_.model.dims().num_experts / ranks_.grid.expert_parallel;
  std::vector<std::int64_t> counts(
      static_cast<std::size_t>(context_.model.shape().num_layers() * experts_per_rank), 0);
  for (const auto& step : steps_) {
    step->body.add_tokens_per_expert(counts);
  }
  return counts;
}

}  // namespace dovetail
