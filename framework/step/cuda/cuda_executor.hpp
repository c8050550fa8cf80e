// The executor of GPU ranks: the two lanes are two streams of one GPU, the waits of the schedule
// are events between them, and an op's body only enqueues.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <c10/cuda/CUDAStream.h>

#include "framework/cuda/clock_alignment.hpp"
#include "framework/cuda/green_partition.hpp"
#include "framework/cuda/op_gate.hpp"
#include "framework/exec/executor.hpp"
#include "framework/exec/host_lead.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_board.hpp"
#include "framework/step/cuda/eager_times.hpp"
#include "framework/step/cuda/graph_order.hpp"
#include "framework/step/cuda/graph_times.hpp"
#include "framework/step/cuda/step_events.hpp"

namespace dovetail {

struct CudaExecutorOptions {
  c10::DeviceIndex device = 0;
  std::chrono::milliseconds timeout{60'000};  ///< bound of the wait for the end of a step
  /// About once a millisecond in waits; throws to end the wait (peer failure, NCCL's asynchronous
  /// errors). Main thread; must not touch the streams. May be empty.
  std::function<void()> on_poll;
  /// When a step is aborted with work pending: tells own kernels that wait for peers to give up.
  /// True = some may have waited; then the lanes get some time to end before cancel_comm, with
  /// which the memory goes that those kernels use. Main thread; must not throw; may be empty.
  std::function<bool()> end_own_waits;
  /// Behind that: makes pending exchanges give up (aborts the communicators). Main thread; must not
  /// throw; may be empty.
  std::function<void()> cancel_comm;
  /// Called at the beginning of a step with the edges of its pass, also of a captured one: a fault
  /// that is injected may change which ops wait. Main thread. May be empty.
  std::function<void(const Schedule&, PassKind, LaneEdges&)> change_edges;
  /// Has the lanes of the steps that ask for SMs of their own; outlives the executor. Null = no
  /// step does.
  const GreenPartition* partition = nullptr;
  OpBoard* board = nullptr;  ///< is told of each op that is being enqueued; null = nobody is
  /// What earlier executors of such steps have learned, and this one does; null = it begins anew.
  HostLead* host_lead = nullptr;
  /// How long a wait looks without sleeping. Sleeps cost up to 0.1 ms of a measured step, a look a
  /// core.
  std::chrono::milliseconds spin{50};
};

/// Streams: compute (default priority) and comm (high priority), both from LibTorch's pool, so that
/// its allocator knows them; never the legacy default stream. Where steps ask for it, they are
/// those of options().partition instead. While an op's body runs, the current stream of its thread
/// is the op's lane, which has been told to wait for the op's waits.
///
/// begin_step makes comm wait for what compute has been given; end_step makes compute wait for
/// comm, then waits for both on the host, bounded.
class CudaExecutor final : public Executor {
 public:
  /// What a step is enqueued for.
  struct Flow {
    bool capturing = false;        ///< both streams are in a capture: end_step only joins them
    bool in_pieces = false;        ///< of a capture: ops without the edges between them
    StepEvents* events = nullptr;  ///< null = the executor's own, of the eager flow
    bool timed = false;            ///< record the times of ops even without OpTimes
    /// [ops] the first op of the piece, a graph, that runs this op and records its end; -1 = of
    /// none; empty = no op is part of one
    std::vector<int> piece_of = {};
    OpGate* gate = nullptr;  ///< holds back ops that are no exchange and no part of a piece
  };

  /// Binds the calling thread, which is the main thread, to the device.
  explicit CudaExecutor(CudaExecutorOptions options);

  /// Of the steps from now on.
  const c10::cuda::CUDAStream& compute_stream() const { return lanes().compute; }

  const c10::cuda::CUDAStream& comm_stream() const { return lanes().comm; }

  const CudaExecutorOptions& options() const { return options_; }

  /// For the steps from now on; between steps. What `flow` points to outlives them.
  void set_flow(Flow flow) { flow_ = std::move(flow); }

  /// The same for the lanes: those of the partition, where there is one, or of the whole GPU, as at
  /// the start.
  void use_partition(bool is_cut) { is_cut_ = is_cut && cut_; }

  bool uses_partition() const { return is_cut_; }

  /// Ahead of an eager step that is to have times: makes what takes long to make. Main thread.
  void make_times(const Schedule& schedule) {
    own_events_.make_times(schedule.ops.size(), compute_stream());
  }

  /// What the times of the last eager step are made of, to look at.
  const StepEvents& eager_events() const { return own_events_; }

  /// Device, handles and workspaces for all streams. Throws ContractError in a capture: threads
  /// must have run an eager step before.
  void enter_thread(int ubatch) override;
  void begin_step(const Schedule& schedule, StepBody& body, PassKind pass, OpTimes* times) override;
  void enqueue(int index) override;
  void end_step() override;

  /// Cancels comm and waits, bounded, until both streams are idle; in a capture it does nothing,
  /// because whoever began the capture throws it away.
  void abort_step() noexcept override;

  /// Marks the end of what compute has been given and waits for it on the host, bounded. Throws
  /// TimeoutError "<what> did not end within ...", with what `where` adds, the device's error, or
  /// what on_poll throws.
  void wait_until_done(const std::string& what, const std::function<std::string()>& where = {});

  /// Fills start_ns and end_ns of the ops that `pass` runs. The streams must be idle, the events
  /// recorded; aligns the clock first. Says how long that took. Throws as StepEvents::read does.
  void read_times(const Schedule& schedule, PassKind pass, StepEvents& events, OpTimes& times);

  /// Of the last read_times.
  const ClockAlignment& clock_alignment() const { return alignment_; }

  /// Host time at which the last step had been enqueued, before the wait for its end.
  std::int64_t enqueued_at_ns() const { return enqueued_at_ns_; }

 private:
  struct Lanes {
    c10::cuda::CUDAStream compute;
    c10::cuda::CUDAStream comm;
  };

  const Lanes& lanes() const { return is_cut_ ? *cut_ : whole_; }

  const c10::cuda::CUDAStream& stream_of(const Op& op) const {
    return op.lane == Lane::comm ? comm_stream() : compute_stream();
  }

  bool is_full_graph() const { return flow_.capturing && !flow_.in_pieces; }

  bool is_in_piece(std::size_t index) const {
    return !flow_.piece_of.empty() && flow_.piece_of[index] >= 0;
  }

  bool is_timed(std::size_t index) const {
    return timing_ != StepTiming::none && !is_in_piece(index);
  }

  bool takes_eager_times(std::size_t index) const {
    return timing_ == StepTiming::eager && is_timed(index);
  }

  bool is_awaited(std::size_t index) const {
    return !flow_.in_pieces && edges_.records[index] != 0;
  }

  bool is_held_back(std::size_t index) const;
  const Event* end_of(std::size_t index);
  void note_begin(std::size_t index, cudaStream_t stream);
  void run_body(const Op& op, std::size_t index, cudaStream_t stream);
  bool note_end(std::size_t index, bool is_held, StepEvents& events, cudaStream_t stream);

  StepEvents& events() { return flow_.events != nullptr ? *flow_.events : own_events_; }

  void witness_exchanges();
  void give_starts_behind_gate();
  void forget_ops_not_held(OpTimes& times) const;
  bool poll_until_done(std::chrono::steady_clock::time_point deadline) const;
  std::string unfinished();

  const CudaExecutorOptions options_;
  const Lanes whole_;
  const std::optional<Lanes> cut_;  ///< of the partition
  bool is_cut_ = false;
  StepEvents own_events_;
  Event finished_;
  EagerTimes eager_times_;
  // In the capture of a full graph.
  GraphOrder graph_order_;
  GraphTimes graph_times_;
  ClockAlignment alignment_;
  Flow flow_;
  std::int64_t enqueued_at_ns_ = 0;
  bool gave_up_ = false;  ///< a wait ended without the streams being idle

  // One step.
  const Schedule* schedule_ = nullptr;
  StepBody* body_ = nullptr;
  PassKind pass_ = PassKind::full;
  OpTimes* times_ = nullptr;
  LaneEdges edges_;
  int next_index_ = 0;  ///< of the op that enqueue expects; handed on with the baton
  StepTiming timing_ = StepTiming::none;
};

}  // namespace dovetail
