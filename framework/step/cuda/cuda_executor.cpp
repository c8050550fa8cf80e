#include "framework/step/cuda/cuda_executor.hpp"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include <c10/cuda/CUDAGuard.h>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/device_binding.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/exec/op_failure.hpp"
#include "framework/step/cuda/step_progress.hpp"

namespace dovetail {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPollInterval = std::chrono::milliseconds(1);
constexpr auto kSleep = std::chrono::microseconds(20);
constexpr auto kGrace = std::chrono::seconds(2);  ///< in which what needs no cancelling mostly ends

c10::cuda::CUDAStream make_stream(bool high_priority, c10::DeviceIndex device) {
  bind_device(device);
  return c10::cuda::getStreamFromPool(high_priority, device);
}

/// True once all work on the stream is done. Throws the device's error.
bool is_idle(cudaStream_t stream) {
  const cudaError_t status = cudaStreamQuery(stream);
  if (status == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // CUDA remembers it for whoever looks next
    return false;
  }
  check_cuda(status, "query a stream");
  return true;
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
  const auto timing = is_full_graph() ? StepTiming::shared : StepTiming::whole;
  timing_ = flow_.timed || times != nullptr ? timing : StepTiming::none;
  find_lane_edges(schedule, pass, edges_);
  if (options_.change_edges) {
    options_.change_edges(schedule, pass, edges_);
  }
  if (!flow_.capturing) {
    witness_exchanges();
  }
  events().prepare(edges_, timing_, compute_stream());
  if (is_full_graph()) {
    graph_order_.begin_step(schedule, pass, edges_);
  }
  if (flow_.gate != nullptr) {
    flow_.gate->begin_step(static_cast<int>(schedule.ops.size()));
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

bool CudaExecutor::is_timed(std::size_t index) const {
  return timing_ != StepTiming::none &&
         (flow_.times_itself.empty() || flow_.times_itself[index] == 0);
}

/// In a capture the event must be a node of the graph, to be recorded by each replay.
void CudaExecutor::mark(const Event& event, cudaStream_t stream) const {
  if (flow_.capturing) {
    event.record_external(stream);
  } else {
    event.record(stream);
  }
}

void CudaExecutor::run_body(const Op& op, std::size_t index, cudaStream_t stream) {
  if (!is_full_graph()) {
    body_->run(op);
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
  const bool has_edges = !flow_.in_pieces;
  const bool timed = is_timed(i);
  auto* gate = timed && !is_exchange(op.phase) ? flow_.gate : nullptr;
  const bool records = has_edges && edges_.records[i] != 0;
  try {
    const auto& stream = stream_of(op);
    if (has_edges && edges_.wait_for[i] >= 0) {
      step_events.done[static_cast<std::size_t>(edges_.wait_for[i])].hold(stream);
    }
    const c10::cuda::CUDAStreamGuard guard(stream);
    if (gate != nullptr) {
      gate->hold(index, stream);
    }
    if (timed && timing_ != StepTiming::shared) {
      mark(step_events.start[i], stream);
    }
    if (options_.board != nullptr) {
      options_.board->begin(op);
    }
    run_body(op, i, stream);
    if (options_.board != nullptr) {
      options_.board->end(op);
    }
    if (timed && timing_ != StepTiming::shared) {
      mark(step_events.end[i], stream);
    }
    if (records) {
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
  }
}

/// A gate that gave up has let gaps into the op's time.
void CudaExecutor::forget_ops_not_held(OpTimes& times) const {
  for (std::size_t i = 0; flow_.gate != nullptr && i < schedule_->ops.size(); ++i) {
    const Phase phase = schedule_->ops[i].phase;
    if (runs_in(pass_, phase) && !is_exchange(phase) && is_timed(i) &&
        !flow_.gate->has_held(static_cast<int>(i))) {
      times.start_ns[i] = -1;
      times.end_ns[i] = -1;
    }
  }
}

bool CudaExecutor::poll_until_done(Clock::time_point deadline) const {
  const auto start = Clock::now();
  auto next_poll = start + kPollInterval;
  while (!finished_.is_done()) {
    const auto now = Clock::now();
    if (now >= deadline) {
      return false;
    }
    if (now >= next_poll) {
      if (options_.on_poll) {
        options_.on_poll();
      }
      next_poll = Clock::now() + kPollInterval;
    }
    if (now - start > options_.spin) {
      std::this_thread::sleep_for(kSleep);
    }
  }
  return true;
}

void CudaExecutor::wait_until_done(const std::string& what,
                                   const std::function<std::string()>& where) {
  finished_.record(compute_stream());
  enqueued_at_ns_ = now_ns();
  gave_up_ = true;
  if (!poll_until_done(Clock::now() + options_.timeout)) {
    throw TimeoutError(what + " did not end within " + std::to_string(options_.timeout.count()) +
                       " ms" + (where ? where() : std::string()));
  }
  gave_up_ = false;
}

std::string CudaExecutor::unfinished() {
  return describe_progress(*schedule_, pass_, [this](std::size_t i) -> const Event* {
    if (is_timed(i)) {
      return &events().end[i];
    }
    return edges_.records[i] != 0 ? &events().done[i] : nullptr;
  });
}

void CudaExecutor::abort_step() noexcept {
  if (flow_.capturing) {
    return;
  }
  const auto wait_idle = [this](Clock::duration limit) {
    const auto deadline = Clock::now() + limit;
    while (!is_idle(compute_stream()) || !is_idle(comm_stream())) {
      if (Clock::now() >= deadline) {
        return false;
      }
      std::this_thread::sleep_for(kSleep);
    }
    return true;
  };
  try {
    if (!gave_up_ && wait_idle(kGrace)) {
      return;
    }
    if (options_.end_own_waits && options_.end_own_waits()) {
      wait_idle(kGrace);
    }
    if (options_.cancel_comm) {
      options_.cancel_comm();
    }
    if (!wait_idle(options_.timeout)) {
      log_line("the GPU is still busy after a failed step");
    }
  } catch (const std::exception& error) {
    log_line(std::string("after a failed step: ") + error.what());
  } catch (...) {
    log_line("after a failed step: an exception that is no std::exception");
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
