#include "framework/step/cuda/step_graphs.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "framework/base/log.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

/// Eager runs of a step, on the same threads and streams, before it is captured: they create
/// handles, workspaces and connections, which a capture must not.
constexpr int kWarmUps = 2;

std::uint32_t outputs_written(const StepOutputs& outputs) {
  std::uint32_t bits = 0;
  const auto add = [&](RecordedOutput output, bool is_written) {
    bits |= is_written ? 1U << static_cast<unsigned>(output) : 0U;
  };
  add(RecordedOutput::hidden, true);
  add(RecordedOutput::logits, outputs.logits.defined());
  add(RecordedOutput::logits_all, outputs.logits_all.defined());
  add(RecordedOutput::layers, !outputs.layers.empty());
  add(RecordedOutput::routing, outputs.expert_ids.defined());
  return bits;
}

}  // namespace

StepGraphs::StepGraphs(const PolicyRunContext& context,
                       const std::string& exchange_kind,
                       Exchange& exchange,
                       CudaStepRunner& runner)
    : context_(context),
      exchange_kind_(exchange_kind),
      mode_(std::min(context.policy.execution.graph, max_graph_mode(exchange_kind))),
      exchange_(exchange),
      runner_(runner),
      cache_(kMaxGraphs) {}

EagerReason StepGraphs::reason_to_run_eagerly(const StepPass& pass, const FrameStep& step) const {
  if (mode_ == GraphMode::none) {
    return EagerReason::mode_none;
  }
  if (pass.keep_plans) {
    return EagerReason::pass_not_captured;
  }
  const auto tokens = tokens_of(step.frame.bounds());
  const bool has_work =
      std::any_of(tokens.begin(), tokens.end(), [](std::int64_t count) { return count > 0; });
  return has_work ? EagerReason::none : EagerReason::no_work;
}

const GraphEntry* StepGraphs::find_or_capture(const Schedule& schedule,
                                              const StepPass& pass,
                                              FrameStep& step,
                                              StepFacts& facts) {
  const auto key = this->key(schedule, pass, step);
  // Passes without routing or without an exchange refer to plans, which last until the next full
  // pass that keeps its own.
  const bool is_kept = pass.pass == PassKind::full;
  if (const auto* found = is_kept ? cache_.find(key) : nullptr) {
    return found;
  }
  one_shot_ = {};
  facts.eager_reason = EagerReason::capture_failed;
  if (cache_.has_failed(key)) {
    return nullptr;
  }
  if (is_kept) {
    cache_.make_room();
  }
  auto captured = capture_on_all_ranks(schedule, pass, step);
  if (captured.step == nullptr) {
    cache_.note_failure(key);
    return nullptr;
  }
  facts.eager_reason = EagerReason::none;
  facts.captured = true;
  if (is_kept) {
    return &cache_.insert(key, std::move(captured));
  }
  cache_.count_capture();
  one_shot_ = std::move(captured);
  return &one_shot_;
}

int StepGraphs::sms_of_comm(const Schedule& schedule) const {
  const bool has_comm_lane = std::any_of(
      schedule.ops.begin(), schedule.ops.end(), [](const Op& op) { return op.lane == Lane::comm; });
  const bool has_peers = context_.rank_context.grid.expert_parallel > 1;
  return has_peers && has_comm_lane ? context_.policy.execution.comm_sms : 0;
}

void StepGraphs::clear() {
  one_shot_ = {};
  cache_.clear();
}

GraphKey StepGraphs::key(const Schedule& schedule,
                         const StepPass& pass,
                         const FrameStep& step) const {
  const auto& workload = context_.rank_context.experiment.workload;
  return {.mode = mode_,
          .schedule_digest = schedule_digest(schedule),
          .phase = workload.phase,
          .bounds = step.frame.bounds(),
          .inputs = workload.inputs.kind,
          .dtype = from_torch(context_.model.dims().dtype),
          .exchange = exchange_kind_,
          .comm_sms = context_.policy.execution.comm_sms,
          .outputs = outputs_written(context_.outputs.front()),
          .pass = pass.pass,
          .instrumented = pass.is_profiled};
}

GraphEntry StepGraphs::capture_on_all_ranks(const Schedule& schedule,
                                            const StepPass& pass,
                                            FrameStep& step) {
  const SmPartition partition(sms_of_comm(schedule));
  auto& meter = exchange_.meter();
  const Traffic before = meter.traffic();
  for (int i = 0; i < kWarmUps; ++i) {
    step.begin(exchange_, pass.pass, false);
    check_cuda(cudaDeviceSynchronize(), "inputs of a warm-up step");
    runner_.run_eager(schedule, step.body, pass.pass, nullptr);
    exchange_.buffers().check_step();
    cache_.count_eager(EagerReason::warm_up);
  }
  auto captured = capture(schedule, pass, step);
  // The warm-ups are no part of what is measured.
  meter.reset();
  meter.add(before);
  std::array<std::int64_t, 1> all_well = {captured.step != nullptr ? 1 : 0};
  all_reduce(context_.rank_context.groups.world, all_well, Reduction::min, policy_wait(context_));
  return all_well[0] == 1 ? std::move(captured) : GraphEntry{};
}

/// Local; empty where it fails.
GraphEntry StepGraphs::capture(const Schedule& schedule, const StepPass& pass, FrameStep& step) {
  GraphEntry captured;
  exchange_.meter().take_captured();
  try {
    step.begin(exchange_, pass.pass, false);
    step.body.set_capturing(true);
    captured.step = runner_.capture(schedule, step.body, pass.pass, mode_, pass.is_profiled);
  } catch (const std::exception& error) {
    log_line(std::string("the step could not be captured: ") + error.what());
  }
  step.body.set_capturing(false);
  captured.traffic = exchange_.meter().take_captured();
  return captured;
}

}  // namespace dovetail
