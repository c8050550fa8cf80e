#include "framework/step/cuda/step_graphs.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "framework/base/log.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/step/cuda/gpu_device.hpp"
#include "framework/step/cuda/step_partition.hpp"
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

StepGraphs::StepGraphs(const StepSetup& setup,
                       Exchange& exchange,
                       ModelStep& body,
                       CudaStepRunner& runner)
    : setup_(setup),
      exchange_(exchange),
      body_(body),
      runner_(runner),
      cache_(graph_capacity(setup.resolved.num_step_shapes)) {}

EagerReason StepGraphs::reason_to_run_eagerly(const StepPass& pass,
                                              const PaddedBatch& batch) const {
  if (mode() == GraphMode::none) {
    return EagerReason::mode_none;
  }
  if (pass.keep_plans || pass.poison_exchange) {
    return EagerReason::pass_not_captured;
  }
  const auto tokens = batch.tokens();
  const bool has_work =
      std::any_of(tokens.begin(), tokens.end(), [](std::int64_t count) { return count > 0; });
  return has_work ? EagerReason::none : EagerReason::no_work;
}

StepGraphs::Found StepGraphs::find_or_capture(const AgreedStep& agreed,
                                              const StepPass& pass,
                                              PaddedBatch& batch) {
  const auto key = this->key(agreed, pass, batch);
  // Passes without routing or without an exchange refer to plans, which last until the next full
  // pass that keeps its own.
  const bool is_kept = pass.pass == PassKind::full;
  if (const auto* found = is_kept ? cache_.find(key) : nullptr) {
    return {.entry = found};
  }
  one_shot_ = {};
  if (cache_.has_failed(key)) {
    return {};
  }
  if (is_kept) {
    cache_.make_room();
  }
  auto captured = capture_on_all_ranks(agreed, pass, batch);
  if (captured.step == nullptr) {
    cache_.note_failure(key);
    return {.has_run = true};
  }
  if (is_kept) {
    return {&cache_.insert(key, std::move(captured)), true, true};
  }
  cache_.count_capture();
  one_shot_ = std::move(captured);
  return {&one_shot_, true, true};
}

void StepGraphs::begin_step(const AgreedStep& agreed, PaddedBatch& batch, const StepPass& pass) {
  exchange_.buffers().begin_step(batch.tokens(),
                                 setup_.resolved.comm_sms_of(agreed.schedule_index));
  body_.begin(
      batch.work(agreed.schedule.num_groups), pass.pass, pass.keep_plans, pass.poison_exchange);
}

int StepGraphs::sms_left_to_exchange(const AgreedStep& agreed, const StepPass& pass) const {
  return pass.all_sms
             ? 0
             : dovetail::sms_left_to_exchange(setup_, agreed.schedule, agreed.schedule_index);
}

void StepGraphs::clear() {
  one_shot_ = {};
  cache_.clear();
}

GraphKey StepGraphs::key(const AgreedStep& agreed,
                         const StepPass& pass,
                         const PaddedBatch& batch) const {
  return {.mode = mode(),
          .schedule_digest = agreed.schedule_digest,
          .phase = setup_.workload.phase,
          .bounds = batch.bounds(),
          .inputs = setup_.workload.inputs.kind,
          .dtype = setup_.resolved.dtype,
          .exchange = setup_.resolved.exchange,
          .comm_sms = setup_.resolved.comm_sms_of(agreed.schedule_index),
          .outputs = outputs_written(setup_.outputs.front()),
          .pass = pass.pass,
          .instrumented = pass.is_profiled};
}

GraphEntry StepGraphs::capture_on_all_ranks(const AgreedStep& agreed,
                                            const StepPass& pass,
                                            PaddedBatch& batch) {
  const int comm_sms = sms_left_to_exchange(agreed, pass);
  const SmPartition partition(comm_sms);
  runner_.use_partition(comm_sms > 0);
  for (int i = 0; i < kWarmUps; ++i) {
    begin_step(agreed, batch, {.step = pass.step, .pass = pass.pass});
    setup_.device.gpu().wait("inputs of a warm-up step");
    runner_.run_eager(agreed.schedule, body_, pass.pass, nullptr);
    exchange_.buffers().check_step();
    cache_.count_eager(EagerReason::warm_up);
  }
  auto captured = capture(agreed, pass, batch);
  const auto& ranks = setup_.ranks;
  std::array<std::int64_t, 1> all_well = {captured.step != nullptr ? 1 : 0};
  all_reduce(ranks.groups.world, all_well, Reduction::min, ranks.wait);
  return all_well[0] == 1 ? std::move(captured) : GraphEntry{};
}

/// Local; empty where it fails.
GraphEntry StepGraphs::capture(const AgreedStep& agreed, const StepPass& pass, PaddedBatch& batch) {
  GraphEntry captured;
  exchange_.meter().take_captured();
  begin_step(agreed, batch, {.step = pass.step, .pass = pass.pass});
  if (setup_.fault != nullptr) {
    setup_.fault->set_capturing(true);
  }
  try {
    captured.step = runner_.capture(agreed.schedule, body_, pass.pass, mode(), pass.is_profiled);
  } catch (const std::exception& error) {
    log_line(std::string("the step could not be captured: ") + error.what());
  }
  if (setup_.fault != nullptr) {
    setup_.fault->set_capturing(false);
  }
  captured.traffic = exchange_.meter().take_captured();
  return captured;
}

}  // namespace dovetail
