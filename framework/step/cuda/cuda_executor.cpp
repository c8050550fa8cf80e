#include "framework/step/cuda/cuda_executor.hpp"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include <c10/cuda/CUDAGuard.h>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/device_binding.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/exec/op_failure.hpp"

namespace dovetail {
namespace {

c10::cuda::CUDAStream make_stream(bool high_priority, c10::DeviceIndex device) {
  bind_device(device);
  return c10::cuda::getStreamFromPool(high_priority, device);
}

/// An error that CUDA still remembers would be taken for the next launch's.
[[noreturn]] void rethrow_cleared(const Op& op) {
  static_cast<void>(cudaGetLastError());
  rethrow_from_op(op);
}

}  // namespace

CudaExecutor::CudaExecutor(CudaExecutorOptions options)
    : options_(std::move(options)),
      whole_({.compute = make_stream(false, options_.device),
              .comm = make_stream(true, options_.device)}),
      cut_(options_.partition == nullptr
               ? std::nullopt
               : std::optional(Lanes{.compute = options_.partition->compute_stream(),
                                     .comm = options_.partition->comm_stream()})),
      finished_(Event::Kind::order),
      eager_times_(options_.host_lead),
      graph_times_(options_.device) {}

void CudaExecutor::enter_thread(int ubatch) {
  DOVETAIL_CHECK(
      !flow_.capturing && !is_capturing(compute_stream()) && !is_capturing(comm_stream()),
      "the thread of ubatch " + std::to_string(ubatch) +
          " starts in a capture: an eager step must come before");
  bind_device(options_.device);
  std::vector<c10::cuda::CUDAStream> streams = {whole_.compute, whole_.comm};
  if (cut_) {
    streams.insert(streams.end(), {cut_->compute, cut_->comm});
  }
  warm_up_blas(streams);
}

void CudaExecutor::begin_step(const Schedule& schedule,
                              StepBody& body,
                              PassKind pass,
                              OpTimes* times) {
  schedule_ = &schedule;
  body_ = &body;
  pass_ = pass;
  times_ = times;
  next_index_ = 0;
  gave_up_ = false;
  graph_times_.begin_step(schedule, pass);
  // Elsewhere the host may be late between two ops, and a piece may end there.
  const auto timing = is_full_graph() ? StepTiming::shared : StepTiming::eager;
  timing_ = flow_.timed || times != nullptr ? timing : StepTiming::none;
  find_lane_edges(schedule, pass, edges_);
  if (options_.change_edges) {
    options_.change_edges(schedule, pass, edges_);
  }
  if (timing_ == StepTiming::eager) {
    eager_times_.begin_step(schedule, pass, edges_, flow_.piece_of, flow_.gate != nullptr);
  }
  if (!flow_.capturing) {
    witness_exchanges();
  }
  events().prepare(edges_, timing_, compute_stream());
  if (!flow_.capturing && (timing_ == StepTiming::eager || events().are_captured)) {
    events().begin_step(compute_stream(), timing_ == StepTiming::eager);
  }
  if (is_full_graph()) {
    graph_order_.begin_step(schedule, pass, edges_);
  }
  if (flow_.gate != nullptr) {
    flow_.gate->begin_step(static_cast<int>(schedule.ops.size()));
    give_starts_behind_gate();
  }
  if (edges_.uses_comm && !flow_.in_pieces) {
    events().fork.record(compute_stream());
    events().fork.hold(comm_stream());
  }
}

/// Exchanges are what hangs when another rank fails: their ends are recorded even where no other
/// lane waits for them, so that a time-out can name the one.
void CudaExecutor::witness_exchanges() {
  for (std::size_t i = 0; i < schedule_->ops.size(); ++i) {
    const Phase phase = schedule_->ops[i].phase;
    if (is_exchange(phase) && runs_in(pass_, phase)) {
      edges_.records[i] = 1;
    }
  }
}

bool CudaExecutor::is_held_back(std::size_t index) const {
  const Phase phase = schedule_->ops[index].phase;
  return flow_.gate != nullptr && runs_in(pass_, phase) && !is_exchange(phase) && is_timed(index);
}

/// The lane waits at a gate for the host, which is no part of the op behind it.
void CudaExecutor::give_starts_behind_gate() {
  for (std::size_t i = 0; i < schedule_->ops.size(); ++i) {
    if (is_held_back(i)) {
      events().give_start(i);
    }
  }
}

/// The event that the other lane waits for, and the host where the op hangs; null = there is none.
/// Of an op that has been enqueued.
const Event* CudaExecutor::end_of(std::size_t index) {
  if (!is_awaited(index)) {
    return nullptr;
  }
  const bool is_timed = takes_eager_times(index) && events().has_end_event(index);
  return is_timed ? &events().end[index] : &events().done[index];
}

/// Ahead of the body. The host comes to all ops of a piece at once.
void CudaExecutor::note_begin(std::size_t index, cudaStream_t stream) {
  auto& step_events = events();
  if (timing_ != StepTiming::eager || flow_.capturing) {
    return;
  }
  if (is_held_back(index)) {
    step_events.start[index].record(stream);
    return;
  }
  const auto first = is_in_piece(index) ? static_cast<std::size_t>(flow_.piece_of[index]) : index;
  step_events.begun_ns[index] = first == index ? now_ns() : step_events.begun_ns[first];
}

void CudaExecutor::run_body(const Op& op, std::size_t index, cudaStream_t stream) {
  if (takes_eager_times(index)) {
    const auto order = flow_.capturing ? StampOrder::captured : StampOrder::unknown;
    eager_times_.run(*body_, op, index, order, events(), stream);
    return;
  }
  if (!is_full_graph()) {
    body_->run(op);
    if (timing_ == StepTiming::eager && is_in_piece(index) &&
        flow_.piece_of[index] == static_cast<int>(index)) {
      eager_times_.note_piece(index);
    }
    return;
  }
  if (timing_ == StepTiming::shared) {
    GraphTimes::enter(index, events(), stream);
  }
  graph_order_.enter(index, stream);
  if (timing_ == StepTiming::shared) {
    GraphTimes::run(*body_, op, index, graph_order_.predecessors(), events(), stream);
  } else {
    body_->run(op);
  }
  graph_order_.leave(index, stream);
  if (timing_ == StepTiming::shared) {
    graph_times_.leave(op, index, graph_order_.predecessors(), events(), stream);
  }
}

/// Right behind the body: true where it has recorded a timing event. An op that is held back has
/// one in any case, by which its time stamps are judged.
bool CudaExecutor::note_end(std::size_t index,
                            bool is_held,
                            StepEvents& events,
                            cudaStream_t stream) {
  const bool needs_event = eager_times_.leave(index, events);
  if (is_held) {
    events.ends[index] = {EndKind::event};
  } else if (!needs_event) {
    return false;
  }
  if (flow_.capturing) {
    events.end[index].record_external(stream);  // in a capture, to be recorded by each replay
  } else {
    events.end[index].record(stream);
  }
  return true;
}

void CudaExecutor::enqueue(int index) {
  DOVETAIL_CHECK(index == next_index_ || (flow_.in_pieces && index > next_index_),
                 "op " + std::to_string(index) + " after op " + std::to_string(next_index_ - 1));
  next_index_ = index + 1;
  const auto i = static_cast<std::size_t>(index);
  const Op& op = schedule_->ops[i];
  if (!runs_in(pass_, op.phase)) {
    return;
  }
  // Looked up ahead of the body: a body that outlives its step must not look at the next one's.
  StepEvents& step_events = events();
  const bool is_end_awaited = is_awaited(i);
  auto* gate = is_held_back(i) ? flow_.gate : nullptr;
  const bool takes_times = takes_eager_times(i);
  try {
    const auto& stream = stream_of(op);
    if (!flow_.in_pieces && edges_.wait_for[i] >= 0) {
      end_of(static_cast<std::size_t>(edges_.wait_for[i]))->hold(stream);
    }
    const c10::cuda::CUDAStreamGuard guard(stream);
    if (gate != nullptr) {
      gate->hold(index, stream);
    }
    note_begin(i, stream);
    if (options_.board != nullptr) {
      options_.board->begin(op);
    }
    run_body(op, i, stream);
    if (options_.board != nullptr) {
      options_.board->end(op);
    }
    // Who waits for the op waits for the timing event, where there is one: each costs the host 1
    // us.
    const bool has_event = takes_times && note_end(i, gate != nullptr, step_events, stream);
    if (is_end_awaited && !has_event) {
      step_events.done[i].record(stream);
    }
    if (gate != nullptr) {
      gate->release(index);
    }
  } catch (...) {
    rethrow_cleared(op);
  }
}

void CudaExecutor::end_step() {
  DOVETAIL_CHECK_EQ(next_index_, static_cast<int>(schedule_->ops.size()));
  if (edges_.uses_comm) {
    events().join.record(comm_stream());
    events().join.hold(compute_stream());
  }
  graph_times_.join(compute_stream());
  if (flow_.capturing) {
    return;
  }
  wait_until_done("the step", [this] { return unfinished(); });
  if (times_ != nullptr) {
    read_times(*schedule_, pass_, events(), *times_);
    forget_ops_not_held(*times_);
    times_->doubt_ns = eager_times_.judge(events(), *times_, alignment_.error_ns);
    alignment_.error_ns = std::max(alignment_.error_ns, events().most_apart_ns(*times_));
  }
}

/// A gate that gave up has let gaps into the op's time.
void CudaExecutor::forget_ops_not_held(OpTimes& times) const {
  for (std::size_t i = 0; flow_.gate != nullptr && i < schedule_->ops.size(); ++i) {
    if (is_held_back(i) && !flow_.gate->has_held(static_cast<int>(i))) {
      times.start_ns[i] = -1;
      times.end_ns[i] = -1;
    }
  }
}

void CudaExecutor::read_times(const Schedule& schedule,
                              PassKind pass,
                              StepEvents& events,
                              OpTimes& times) {
  const std::int64_t begin_ns = now_ns();
  align_clock(compute_stream(), alignment_);
  events.read(schedule, pass, compute_stream(), alignment_, times);
  times.reading_ns = now_ns() - begin_ns;
}

}  // namespace dovetail
