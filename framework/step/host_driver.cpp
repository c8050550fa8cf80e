// The driver of CPU ranks: a host executor over the batch's own tensors.
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/emulated_link.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/received_poison.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/exec/runner.hpp"
#include "framework/exec/short_slice.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/cuda/gpu_device.hpp"
#include "framework/step/model_step.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {
namespace {

/// A thread that spins takes the core of another rank's compute, unless each rank has cores for its
/// compute lane, its comm lane and the spinner.
bool may_spin(const Ranks& ranks) {
  return ranks.session.cpus().cpus >= 3;
}

/// A forward pass that fills a part of the KV cache's context. It stays when the pass fails: a
/// thread may be in an op of it.
struct ContextFill {
  ContextFill(const StepSetup& setup, std::unique_ptr<Exchange> own_exchange)
      : exchange(std::move(own_exchange)),
        body(setup.model, *exchange, setup.iteration.cache(), begin_context_fault(setup)) {}

  std::unique_ptr<Exchange> exchange;
  ModelStep body;
};

class HostDriver final : public StepDriver {
 public:
  /// Members are made in the order in which they need each other.
  explicit HostDriver(const StepSetup& setup)
      : setup_(setup),
        exchange_(make_policy_exchange(setup.schedules.own.num_ubatches, setup.execution.link)),
        body_(setup.model, *exchange_, setup.iteration.cache(), setup.fault),
        executor_({.timeout = setup.ranks.wait.timeout,
                   .thread_init =
                       [threads = at::get_num_threads()](int thread) {
                         at::set_num_threads(threads);
                         if (thread == HostExecutor::kCommThread) {
                           ask_for_short_slices();
                         }
                       },
                   .cancel_comm = [this] { exchange_cancelled_ = true; },
                   .may_spin = may_spin(setup.ranks),
                   .change_edges = edge_change(setup.fault),
                   .board = setup.board}),
        runner_(executor_,
                {.hand_off = setup.execution.hand_off,
                 .timeout = setup.ranks.wait.timeout,
                 .next_spin = may_spin(setup.ranks) ? kShortSpin : std::chrono::nanoseconds{0}}) {}

  void prepare(const AgreedStep& agreed, const StepPass& pass) override {
    const auto step = static_cast<std::size_t>(pass.step);
    auto& outputs = setup_.outputs.at(step);
    schedule_ = &agreed.schedule;
    pass_ = pass;
    if (pass.pass == PassKind::full) {
      outputs.poison();
      if (setup_.poisons_received) {
        poison_all_received(*exchange_, agreed.schedule.num_ubatches);
      }
    }
    body_.begin(cut_step(setup_.iteration.steps().at(step),
                         agreed.slices,
                         outputs,
                         given_at(setup_.given.expert_ids, step),
                         agreed.schedule.num_groups),
                pass.pass,
                pass.keep_plans,
                pass.poison_exchange);
    exchange_->meter().reset();
  }

  void run(OpTimes* times) override { runner_.run(*schedule_, body_, pass_.pass, times); }

  StepReport finish() override { return {.traffic = exchange_->meter().traffic()}; }

  void add_tokens_per_expert(std::span<std::int64_t> counts) const override {
    DOVETAIL_CHECK(pass_.keep_plans, "the pass has not kept its plans");
    body_.add_tokens_per_expert(counts);
  }

  /// Not over an emulated link: it is no part of what is measured.
  void fill_context(int context_step, StepOutputs& outputs) override {
    const auto index = static_cast<std::size_t>(context_step);
    const auto& inputs = setup_.iteration.context_steps().at(index);
    context_fill_.emplace(setup_, make_policy_exchange(1, std::nullopt));
    auto& body = context_fill_->body;
    body.begin(cut_step(inputs,
                        split_batch(inputs.batch, {}, 1),
                        outputs,
                        given_at(setup_.given.context_expert_ids, index)),
               PassKind::full,
               false);
    runner_.run(setup_.schedules.plain, body, PassKind::full, nullptr);
    context_fill_.reset();
  }

  std::uint64_t graph_cache_digest() const override { return 0; }

  DriverReport report() const override {
    return {.memory = {}, .graphs = {}, .most_roundings = body_.most_roundings()};
  }

 private:
  std::unique_ptr<Exchange> make_policy_exchange(int num_ubatches,
                                                 const std::optional<LinkConfig>& link) {
    const auto shape = exchange_shape(setup_, num_ubatches);
    const auto& groups = setup_.ranks.groups;
    const auto wait = exchange_wait();
    auto exchange = make_exchange(setup_.resolved.exchange,
                                  /*on_gpu=*/false,
                                  shape,
                                  {.exchange_comm = &groups.exchange,
                                   .counts_comm = &groups.counts,
                                   .wait = wait,
                                   .padded_capacity = setup_.execution.padded_capacity,
                                   .world_rank = setup_.ranks.rank().value});
    return link ? emulate_link(std::move(exchange), shape, *link, wait) : std::move(exchange);
  }

  /// Also ends when the step has failed elsewhere on this rank.
  WaitPolicy exchange_wait() {
    auto wait = setup_.ranks.wait;
    wait.on_poll = [this, poll = wait.on_poll] {
      poll();
      if (exchange_cancelled_) {
        throw RunError("the step has failed on this rank");
      }
    };
    return wait;
  }

  const StepSetup setup_;
  std::atomic<bool> exchange_cancelled_{false};
  std::unique_ptr<Exchange> exchange_;
  ModelStep body_;
  std::optional<ContextFill> context_fill_;
  // Of the step that was prepared.
  const Schedule* schedule_ = nullptr;
  StepPass pass_;
  HostExecutor executor_;
  Runner runner_;
};

}  // namespace

std::unique_ptr<StepDriver> make_step_driver(const StepSetup& setup) {
  return setup.device.is_gpu() ? setup.device.gpu().make_driver(setup)
                               : std::make_unique<HostDriver>(setup);
}

}  // namespace dovetail
