#include "framework/step/host_driver.hpp"

#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>

#include "framework/comm/exchange/emulated_link.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/exec/runner.hpp"
#include "framework/exec/short_slice.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/policy_context.hpp"

namespace dovetail {
namespace {

std::unique_ptr<Exchange> make_policy_exchange(const PolicyRunContext& context,
                                               int num_ubatches,
                                               const std::optional<LinkConfig>& link,
                                               const WaitPolicy& wait) {
  const auto shape = exchange_shape(context, num_ubatches);
  const auto& groups = context.rank_context.groups;
  auto exchange = make_exchange(choose_exchange(context.policy.execution.exchange, false).name,
                                shape,
                                groups.exchange,
                                groups.counts,
                                wait);
  return link ? emulate_link(std::move(exchange), shape, *link, wait) : std::move(exchange);
}

/// A thread that spins takes the core of another rank's compute, unless each rank has cores for its
/// compute lane, its comm lane and the spinner.
bool may_spin(const RankContext& context) {
  return static_cast<int>(std::thread::hardware_concurrency()) >= 3 * context.session.local_size();
}

/// A forward pass that fills a part of the context; only the keys and values that it leaves count.
struct ContextStep {
  ContextStep(const PolicyRunContext& context, Exchange& exchange, const StepInputs& inputs)
      : outputs(make_step_outputs(inputs,
                                  context.model.dims(),
                                  context.model.shape().num_layers(),
                                  {.logits = false},
                                  inputs.input_ids.device())),
        body(context.model, exchange, context.iteration.cache(), outputs) {}

  StepOutputs outputs;
  ModelStep body;
};

class HostDriver final : public StepDriver {
 public:
  /// Members are made in the order in which they need each other.
  HostDriver(const PolicyRunContext& context, FaultHook* fault)
      : context_(context),
        wait_(policy_wait(context)),
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
                   .may_spin = may_spin(context.rank_context)}),
        runner_(executor_,
                {.hand_off = context.policy.execution.hand_off,
                 .timeout = wait_.timeout,
                 .next_may_spin = may_spin(context.rank_context)}) {
    for (std::size_t i = 0; i < context.iteration.steps().size(); ++i) {
      bodies_.push_back(std::make_unique<ModelStep>(
          context.model, *exchange_, context.iteration.cache(), context.outputs.at(i)));
      bodies_.back()->replay_routing(given_at(context.given.expert_ids, i));
      bodies_.back()->set_fault(fault);
    }
  }

  Exchange& exchange() override { return *exchange_; }

  void prepare(const AgreedStep& agreed, const StepPass& pass) override {
    const auto index = static_cast<std::size_t>(pass.step);
    body_ = bodies_.at(index).get();
    schedule_ = &agreed.schedule;
    pass_ = pass.pass;
    body_->begin(
        ModelStep::cut(context_.iteration.steps().at(index), agreed.slices), pass.pass, true);
  }

  StepFacts run(OpTimes* times) override {
    runner_.run(*schedule_, *body_, pass_, times);
    return {};
  }

  void fill_context(int context_step) override {
    const auto index = static_cast<std::size_t>(context_step);
    const auto& inputs = context_.iteration.context_steps().at(index);
    context_exchange_ = make_policy_exchange(context_, 1, std::nullopt, exchange_wait());
    context_step_ = std::make_unique<ContextStep>(context_, *context_exchange_, inputs);
    auto& body = context_step_->body;
    body.replay_routing(given_at(context_.given.context_expert_ids, index));
    body.begin(ModelStep::cut(inputs, split_batch(inputs.batch, {}, 1)), PassKind::full, false);
    runner_.run(context_.schedules.plain, body, PassKind::full, nullptr);
    context_step_.reset();
    context_exchange_.reset();
  }

  void add_tokens_per_expert(int step, std::span<std::int64_t> counts) const override {
    bodies_.at(static_cast<std::size_t>(step))->add_tokens_per_expert(counts);
  }

 private:
  /// Also ends when the step has failed elsewhere on this rank.
  WaitPolicy exchange_wait() {
    auto wait = wait_;
    wait.on_poll = [this, poll = wait.on_poll] {
      poll();
      if (exchange_cancelled_) {
        throw RunError("the step has failed on this rank");
      }
    };
    return wait;
  }

  const PolicyRunContext& context_;
  WaitPolicy wait_;
  std::atomic<bool> exchange_cancelled_{false};
  std::unique_ptr<Exchange> exchange_;
  std::vector<std::unique_ptr<ModelStep>> bodies_;  ///< of each step
  // Of the context that is being filled. They stay when it fails: a thread may be in an op of them.
  std::unique_ptr<Exchange> context_exchange_;
  std::unique_ptr<ContextStep> context_step_;
  // Of the step that was prepared.
  ModelStep* body_ = nullptr;
  const Schedule* schedule_ = nullptr;
  PassKind pass_ = PassKind::full;
  HostExecutor executor_;
  Runner runner_;
};

}  // namespace

std::unique_ptr<StepDriver> make_host_driver(const PolicyRunContext& context, FaultHook* fault) {
  return std::make_unique<HostDriver>(context, fault);
}

}  // namespace dovetail
