#include "framework/step/cuda/cuda_driver.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <utility>

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/received_poison.hpp"
#include "framework/cuda/delay_kernel.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/cuda/gpu_device.hpp"
#include "framework/step/cuda/step_partition.hpp"
#include "framework/step/kv_cache.hpp"

namespace dovetail {

namespace {

/// The communicators of the policy's steps, by the SMs that they take; none for a group of one.
std::map<int, NcclComm*> make_comms(const StepSetup& setup) {
  std::map<int, NcclComm*> comms;
  for (const int comm_sms : {setup.resolved.comm_sms, setup.resolved.plain_comm_sms}) {
    if (auto* comm = setup.device.gpu().ep_comm(comm_sms)) {
      comms[comm_sms] = comm;
    }
  }
  return comms;
}

/// To enqueue an op takes 30 to 500 us, half as long again on a core whose caches another ubatch's
/// thread has filled: all threads share one. Calls of NCCL start a thread each and wait for it, so
/// with these the threads have cores of their own; the next one in line then has nothing else to do
/// and spins, where it takes no core from the thread that enqueues, from NCCL's and from the MPI
/// library's.
RunnerOptions runner_options(const StepSetup& setup) {
  constexpr int own_cores = 4;
  RunnerOptions options{.hand_off = setup.execution.hand_off, .timeout = setup.ranks.wait.timeout};
  options.on_one_core = setup.ranks.grid.expert_parallel == 1 ||
                        find_exchange(setup.resolved.exchange)->shares_memory;
  const bool has_cores = setup.ranks.session.cpus().cpus >= own_cores;
  options.next_spin = has_cores ? kLongSpin : kShortSpin;
  return options;
}

}  // namespace

struct CudaDriver::ContextFill {
  ContextFill(const StepSetup& setup,
              std::unique_ptr<Exchange> own_exchange,
              const StepBounds& bounds,
              const PaddedShape& shape)
      : exchange(std::move(own_exchange)),
        batch(bounds, shape, setup.device.device()),
        body(setup.model, *exchange, setup.iteration.cache(), begin_context_fault(setup)) {}

  std::unique_ptr<Exchange> exchange;
  PaddedBatch batch;
  ModelStep body;
};

CudaDriver::CudaDriver(const StepSetup& setup)
    : setup_(setup),
      comms_(make_comms(setup)),
      exchange_(make_policy_exchange(setup.schedules.own.num_ubatches)),
      body_(setup.model, *exchange_, setup.iteration.cache(), setup.fault),
      runner_({.device = setup.device.device().index(),
               .timeout = setup.ranks.wait.timeout,
               .on_poll = [this] { poll(); },
               .end_own_waits = [this] { return end_own_waits(); },
               .cancel_comm = [this] { cancel_comm(); },
               .change_edges = edge_change(setup.fault),
               .partition = find_partition(setup),
               .board = setup.board,
               .host_lead = setup.host_lead},
              runner_options(setup)),
      graphs_(setup_, *exchange_, body_, runner_) {
  if (setup.fault != nullptr) {
    setup.fault->set_delay([](std::chrono::nanoseconds time) {
      launch_delay(time, c10::cuda::getCurrentCUDAStream());
    });
  }
  forget_memory();
}

CudaDriver::~CudaDriver() = default;

void CudaDriver::prepare(const AgreedStep& agreed, const StepPass& pass) {
  const auto step = static_cast<std::size_t>(pass.step);
  const auto& inputs = setup_.iteration.steps().at(step);
  schedule_ = &agreed.schedule;
  pass_ = pass;
  report_ = {};
  captured_ = nullptr;
  if (agreed.decision.graphs_differ) {
    graphs_.clear();
  }
  use_batch(frame_bounds(agreed.decision.bounds, setup_.workload.phase));
  batch_->load(inputs, agreed.slices, given_at(setup_.given.expert_ids, step));
  make_buffers(agreed);
  comm_sms_ = graphs_.sms_left_to_exchange(agreed, pass);
  report_.sms_left_out = comm_sms_;
  report_.eager_reason = graphs_.reason_to_run_eagerly(pass, *batch_);
  if (report_.eager_reason == EagerReason::none) {
    const auto found = graphs_.find_or_capture(agreed, pass, *batch_);
    captured_ = found.entry;
    report_.captured = found.captured_now;
    if (captured_ == nullptr) {
      report_.eager_reason = EagerReason::capture_failed;
    }
    if (found.has_run) {
      poison_slots(setup_.iteration.cache(), inputs.slot_mapping);
    }
  }
  if (pass.is_profiled && captured_ == nullptr) {
    runner_.make_times(agreed.schedule);
  }
  if (pass.pass == PassKind::full) {
    batch_->outputs().poison();
    if (setup_.poisons_received) {
      poison_all_received(*exchange_, agreed.schedule.num_ubatches);
    }
  }
  graphs_.begin_step(agreed, *batch_, pass);
  exchange_->meter().reset();
  setup_.device.gpu().wait("end of a step's preparation");
}

void CudaDriver::run(OpTimes* times) {
  if (captured_ != nullptr) {
    act_where_graphs_are_launched();
    runner_.replay(*captured_->step, times, pass_.is_gated);
    exchange_->meter().add(captured_->traffic);
    report_.graph = graphs_.mode();
    graphs_.count_replay();
  } else {
    const SmPartition partition(comm_sms_);
    runner_.use_partition(comm_sms_ > 0);
    runner_.run_eager(*schedule_, body_, pass_.pass, times, pass_.is_gated);
    graphs_.count_eager(report_.eager_reason);
  }
  report_.enqueues_kernels = runner_.last_enqueued_kernels();
  report_.enqueue_ns = runner_.last_enqueue_ns();
  clock_error_ns_ = std::max(clock_error_ns_, runner_.clock_alignment().error_ns);
}

StepReport CudaDriver::finish() {
  exchange_->buffers().check_step();
  if (pass_.pass == PassKind::full) {
    batch_->store(setup_.outputs.at(static_cast<std::size_t>(pass_.step)));
    setup_.device.gpu().wait("copy of a step's outputs");
  }
  report_.comm_sms = exchange_->buffers().comm_sms();
  report_.traffic = exchange_->meter().traffic();
  return report_;
}

void CudaDriver::add_tokens_per_expert(std::span<std::int64_t> counts) const {
  DOVETAIL_CHECK(pass_.keep_plans, "the pass has not kept its plans");
  body_.add_tokens_per_expert(counts);
}

void CudaDriver::fill_context(int context_step, StepOutputs& outputs) {
  const auto index = static_cast<std::size_t>(context_step);
  const auto& inputs = setup_.iteration.context_steps().at(index);
  const auto whole = split_batch(inputs.batch, {}, 1);
  const auto& ranks = setup_.ranks;
  const auto own = make_message({.rank = ranks.rank(), .batch = inputs.batch, .slices = whole});
  const auto reduced = agree(ranks.groups.agreement, own, ranks.wait);
  const auto expert_ids = given_at(setup_.given.context_expert_ids, index);
  auto shape = padded_shape();
  shape.selection = selection_of(outputs);
  shape.has_embeds = inputs.embeds.defined();
  shape.replays_routing = expert_ids.defined();
  context_fill_ =
      std::make_unique<ContextFill>(setup_,
                                    make_policy_exchange(1),
                                    frame_bounds(decide(reduced, {}).bounds, WorkPhase::prefill),
                                    shape);
  auto& fill = *context_fill_;
  fill.batch.load(inputs, whole, expert_ids);
  fill.exchange->buffers().begin_step(fill.batch.tokens(), setup_.resolved.plain_comm_sms);
  fill.body.begin(fill.batch.work(setup_.schedules.plain.num_groups), PassKind::full, false);
  setup_.device.gpu().wait("inputs of the context");
  runner_.use_partition(false);
  runner_.run_eager(setup_.schedules.plain, fill.body, PassKind::full, nullptr);
  fill.exchange->buffers().check_step();
  fill.batch.store(outputs);
  setup_.device.gpu().wait("copy of the context's outputs");
  context_fill_.reset();
  forget_memory();
}

DriverReport CudaDriver::report() const {
  return {.memory = memory(),
          .graphs = graphs_.counters(),
          .device_clock_error_ns = clock_error_ns_,
          .most_roundings = body_.most_roundings()};
}

MemoryRecord CudaDriver::memory() const {
  const auto stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(setup_.device.device().index());
  const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto& cache = setup_.iteration.cache();
  std::int64_t cache_bytes = 0;
  for (const auto& part : cache.parts()) {
    for (const auto& tensor : cache.*part.layers) {
      cache_bytes += static_cast<std::int64_t>(tensor.nbytes());
    }
  }
  return {.peak_reserved = stats.reserved_bytes.at(all).peak,
          .peak_allocated = stats.allocated_bytes.at(all).peak,
          .weights = setup_.model.weight_bytes(),
          .cache = cache_bytes,
          .exchange = exchange_->buffers().bytes()};
}

std::unique_ptr<Exchange> CudaDriver::make_policy_exchange(int num_ubatches) const {
  const auto& ranks = setup_.ranks;
  return make_exchange(setup_.resolved.exchange,
                       /*on_gpu=*/true,
                       exchange_shape(setup_, num_ubatches),
                       {.counts_comm = &ranks.groups.counts,
                        .nccl_comms = comms_,
                        .wait = ranks.wait,
                        .padded_capacity = setup_.execution.padded_capacity,
                        .world_rank = ranks.rank().value});
}

/// For the steps of the policy's iteration.
PaddedShape CudaDriver::padded_shape() const {
  const auto& steps = setup_.iteration.steps();
  std::int64_t max_pages = 0;
  for (const auto& step : steps) {
    max_pages = std::max(max_pages, step.block_tables.size(1));
  }
  return {.dims = setup_.model.dims(),
          .num_layers = setup_.model.shape().num_layers(),
          .max_pages = max_pages,
          .has_embeds = steps.front().embeds.defined(),
          .is_mrope = steps.front().positions.dim() == 2,
          .replays_routing = !setup_.given.expert_ids.empty(),
          .selection = selection_of(setup_.outputs.front())};
}

/// Gives back what an earlier policy, or the context, has left behind, so that peaks are this
/// policy's own.
void CudaDriver::forget_memory() const {
  setup_.device.gpu().wait("before memory is given back");
  at::cuda::clearCublasWorkspaces();
  c10::cuda::CUDACachingAllocator::emptyCache();
  c10::cuda::CUDACachingAllocator::resetPeakStats(setup_.device.device().index());
}

/// A bound of one query a request makes attention take its kernel for decode, and another kernel
/// gives other bits. So that a chunk of one token has those of a whole prefill, a batch-invariant
/// policy takes that kernel in the phase decode only.
StepBounds CudaDriver::frame_bounds(StepBounds agreed, WorkPhase phase) const {
  if (setup_.execution.numerics == Numerics::batch_invariant && phase != WorkPhase::decode) {
    agreed.query_length = std::max<std::int64_t>(agreed.query_length, 2);
  }
  return agreed;
}

/// The batch of these bounds, which are equal on all ranks. Graphs refer to batches, so both go
/// where there are too many; steps are captured again then, which the record says of each.
void CudaDriver::use_batch(const StepBounds& bounds) {
  for (const auto& batch : batches_) {
    if (batch->bounds() == bounds) {
      batch_ = batch.get();
      return;
    }
  }
  if (batches_.size() >= graph_capacity(setup_.resolved.num_step_shapes)) {
    graphs_.clear();
    batches_.clear();
  }
  batches_.push_back(std::make_unique<PaddedBatch>(bounds, padded_shape(), setup_.device.device()));
  batch_ = batches_.back().get();
}

/// The exchange's buffers are made for the bounds; graphs that refer to smaller ones are dropped,
/// on all ranks alike.
void CudaDriver::make_buffers(const AgreedStep& agreed) {
  exchange_->buffers().begin_step(batch_->tokens(),
                                  setup_.resolved.comm_sms_of(agreed.schedule_index));
  if (exchange_->buffers().generation() != generation_) {
    graphs_.clear();
    generation_ = exchange_->buffers().generation();
  }
}

}  // namespace dovetail
