#include "framework/step/cuda/step_runner.hpp"

#include <exception>
#include <string>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/text.hpp"
#include "framework/cuda/stream_capture.hpp"

namespace dovetail {
namespace {

/// Sets the executor's flow for a scope.
class FlowScope {
 public:
  FlowScope(CudaExecutor& executor, CudaExecutor::Flow flow) : executor_(executor) {
    executor_.set_flow(std::move(flow));
  }

  ~FlowScope() { executor_.set_flow({}); }

  FlowScope(const FlowScope&) = delete;
  FlowScope& operator=(const FlowScope&) = delete;
  FlowScope(FlowScope&&) = delete;
  FlowScope& operator=(FlowScope&&) = delete;

 private:
  CudaExecutor& executor_;
};

/// The body of a piecewise replay: graphs in the place of captured ops.
class PieceLauncher final : public StepBody {
 public:
  PieceLauncher(const Schedule& schedule, StepBody& body, cudaStream_t compute)
      : schedule_(schedule),
        body_(body),
        compute_(compute),
        graphs_(schedule.ops.size(), nullptr),
        piece_of_(schedule.ops.size(), -1) {}

  void add(const GraphPiece& ops, const GraphExec& exec) {
    graphs_[static_cast<std::size_t>(ops.first)] = &exec;
    for (int i = ops.first; i < ops.end; ++i) {
      piece_of_[static_cast<std::size_t>(i)] = ops.first;
    }
  }

  /// As CudaExecutor::Flow.
  const std::vector<int>& piece_of() const { return piece_of_; }

  void run(const Op& op) override {
    const auto index = static_cast<std::size_t>(&op - schedule_.ops.data());
    if (piece_of_[index] < 0) {
      body_.run(op);
    } else if (graphs_[index] != nullptr) {
      graphs_[index]->launch(compute_);
    }
  }

 private:
  const Schedule& schedule_;
  StepBody& body_;
  cudaStream_t compute_;
  std::vector<const GraphExec*> graphs_;  ///< [ops]: at the first op of each piece
  std::vector<int> piece_of_;
};

/// `piece_of`: as CudaExecutor::Flow.
bool enqueues_kernels(const Schedule& schedule, PassKind pass, const std::vector<int>& piece_of) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Phase phase = schedule.ops[i].phase;
    if (runs_in(pass, phase) && !is_exchange(phase) && (piece_of.empty() || piece_of[i] < 0)) {
      return true;
    }
  }
  return false;
}

}  // namespace

CudaStepRunner::CudaStepRunner(CudaExecutorOptions executor_options, RunnerOptions runner_options)
    : executor_(std::move(executor_options)),
      pool_(executor_.options().device),
      runner_(executor_, runner_options) {
  executor_.enter_thread(-1);
  executor_.wait_until_done("the preparation of the main thread");
}

void CudaStepRunner::run_eager(
    const Schedule& schedule, StepBody& body, PassKind pass, OpTimes* times, bool gated) {
  walk(schedule, body, pass, times, {}, gated);
}

void CudaStepRunner::walk(const Schedule& schedule,
                          StepBody& body,
                          PassKind pass,
                          OpTimes* times,
                          CudaExecutor::Flow flow,
                          bool gated) {
  last_enqueued_kernels_ = enqueues_kernels(schedule, pass, flow.piece_of);
  if (gated) {
    DOVETAIL_CHECK(times != nullptr, "only ops that are timed are held back");
    if (!gate_) {
      gate_.emplace();
    }
    flow.gate = &*gate_;
  }
  const std::int64_t start = now_ns();
  {
    const FlowScope scope(executor_, std::move(flow));
    runner_.run(schedule, body, pass, times);
  }
  last_enqueue_ns_ = executor_.enqueued_at_ns() - start;
  // A run that gets through proves that no thread is left inside an op of an earlier one.
  abandoned_.clear();
}

std::unique_ptr<CapturedStep> CudaStepRunner::capture(
    const Schedule& schedule, StepBody& body, PassKind pass, GraphMode mode, bool instrumented) {
  DOVETAIL_CHECK(mode != GraphMode::none, "a capture is piecewise or full");
  auto step = std::make_unique<CapturedStep>(
      schedule, body, pass, mode, instrumented, executor_.uses_partition());
  const std::int64_t start = now_ns();
  try {
    step->memory_ = GraphMemory(pool_, compute_stream(), comm_stream());
    if (mode == GraphMode::full) {
      capture_full(*step);
    } else {
      capture_pieces(*step);
    }
    step->memory_.stop_taking();
    step->capture_ns_ = now_ns() - start;
    instantiate(*step);
    step->instantiate_ns_ = now_ns() - start - step->capture_ns_;
  } catch (...) {
    step->pieces_.clear();
    step->memory_ = GraphMemory();
    abandoned_.push_back(std::move(step));
    throw;
  }
  return step;
}

void CudaStepRunner::capture_full(CapturedStep& step) {
  LaneEdges edges;
  find_lane_edges(step.schedule_, step.pass_, edges);
  // Ahead of the capture: events are slow to make, and words cannot be made there.
  step.events_.prepare(
      edges, step.instrumented_ ? StepTiming::shared : StepTiming::none, compute_stream());
  const FlowScope flow(executor_,
                       {.capturing = true, .events = &step.events_, .timed = step.instrumented_});
  StreamCapture capture(compute_stream(), comm_stream());
  runner_.run(step.schedule_, *step.body_, step.pass_, nullptr);
  CapturedStep::Piece piece;
  piece.ops = {0, static_cast<int>(step.schedule_.ops.size())};
  piece.graph = capture.end();
  if (step.instrumented_) {
    GraphTimes::take_out_needless_events(step.schedule_, step.pass_, step.events_);
  }
  step.pieces_.push_back(std::move(piece));
}

/// No edges between the pieces: ordinary events make them at replay.
void CudaStepRunner::capture_pieces(CapturedStep& step) {
  const FlowScope flow(
      executor_,
      {.capturing = true, .in_pieces = true, .events = &step.events_, .timed = step.instrumented_});
  executor_.begin_step(step.schedule_, *step.body_, step.pass_, nullptr);
  for (const auto& ops : graph_pieces(step.schedule_, step.pass_)) {
    StreamCapture capture(compute_stream(), comm_stream());
    for (int i = ops.first; i < ops.end; ++i) {
      executor_.enqueue(i);
    }
    CapturedStep::Piece piece;
    piece.ops = ops;
    piece.graph = capture.end();
    step.pieces_.push_back(std::move(piece));
  }
  step.events_.are_captured = true;
}

void CudaStepRunner::instantiate(CapturedStep& step) {
  for (auto& piece : step.pieces_) {
    piece.exec = GraphExec(piece.graph);
    piece.exec.upload(compute_stream());
  }
  executor_.wait_until_done("the upload of a captured step");
}

void CudaStepRunner::replay_full(CapturedStep& step, OpTimes* times) {
  last_enqueued_kernels_ = false;
  if (times != nullptr) {
    times->reset(step.schedule_.ops.size());
  }
  try {
    step.events_.begin_step(compute_stream(), times != nullptr);
    const std::int64_t start = now_ns();
    step.pieces_.front().exec.launch(compute_stream());
    executor_.wait_until_done("the replayed step (schedule " + step.schedule_.name + ", " +
                              counted(std::ssize(step.schedule_.ops), "op") + ")");
    last_enqueue_ns_ = executor_.enqueued_at_ns() - start;
    if (times != nullptr) {
      executor_.read_times(step.schedule_, step.pass_, step.events_, *times);
    }
  } catch (...) {
    executor_.abort_step();
    throw;
  }
}

void CudaStepRunner::replay_pieces(CapturedStep& step, OpTimes* times, bool gated) {
  PieceLauncher launcher(step.schedule_, *step.body_, compute_stream());
  for (const auto& piece : step.pieces_) {
    launcher.add(piece.ops, piece.exec);
  }
  walk(step.schedule_,
       launcher,
       step.pass_,
       times,
       {.events = &step.events_, .piece_of = launcher.piece_of()},
       gated);
}

void CudaStepRunner::replay(CapturedStep& step, OpTimes* times, bool gated) {
  DOVETAIL_CHECK(times == nullptr || step.instrumented_,
                 "only an instrumented capture has times of ops");
  use_partition(step.is_cut_);
  if (step.mode_ == GraphMode::full) {
    replay_full(step, times);
  } else {
    replay_pieces(step, times, gated);
  }
}

}  // namespace dovetail
