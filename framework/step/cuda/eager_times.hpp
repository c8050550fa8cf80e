// How the times of ops are taken that the host enqueues one by one, or that a piece of a graph
// holds.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include <cuda_runtime_api.h>

#include "framework/base/clock.hpp"
#include "framework/base/types.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/exec/host_lead.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/step/cuda/step_events.hpp"

namespace dovetail {

/// A timing event costs its stream 2 us on an H200, an event that only orders streams next to
/// nothing. So the end of an op is told, where it can be, by a time stamp of its own last kernel,
/// or of the first kernel of the op that follows it at once, and only else by an event. The host
/// may be late with what follows. So this tells no end that the other lane waits for, and that of
/// an exchange only where the steps before have shown that the host is well ahead there. Calls come
/// from the thread that holds the baton, in the order of the ops.
class EagerTimes {
 public:
  /// `host_lead` outlives it; null = one of its own.
  explicit EagerTimes(HostLead* host_lead)
      : host_lead_(host_lead != nullptr ? *host_lead : own_host_lead_) {}

  /// Ahead of the ops of a pass. `schedule` outlives it. `edges`: what the other lane waits for.
  /// `piece_of`: as CudaExecutor::Flow. `is_gated`: ops are held back, which no exchange's end may
  /// be told by.
  void begin_step(const Schedule& schedule,
                  PassKind pass,
                  const LaneEdges& edges,
                  const std::vector<int>& piece_of,
                  bool is_gated);

  /// Runs the op, and keeps in `events` which time stamps it has written.
  void run(StepBody& body,
           const Op& op,
           std::size_t index,
           StampOrder order,
           StepEvents& events,
           cudaStream_t stream);

  /// Right behind the launch of the piece whose first op this is.
  void note_piece(std::size_t first) { launched_ns_[first] = now_ns(); }

  /// Right behind the body of an op: true where an event must tell the end of the op, which
  /// `events` keeps.
  bool leave(std::size_t index, StepEvents& events);

  /// Behind a step, with the times that were read of it, to `error_ns`: learns where the host was
  /// ahead. Returns OpTimes::doubt_ns: the length of the longest exchange where it was expected
  /// ahead, and was not.
  std::int64_t judge(const StepEvents& events, const OpTimes& times, std::int64_t error_ns);

 private:
  bool begins_with_stamp(std::size_t op, const StepEvents& events);

  /// How many ops of this phase in a row, behind ops of the phase of `before`, have begun with a
  /// time stamp in this step: the layers of a model begin alike, and what with depends on what is
  /// before (sums of a combine, or a norm). One alone may have begun with an injected delay.
  int& stamped_in_a_row(std::size_t before, std::size_t op);

  const Schedule* schedule_ = nullptr;
  std::vector<int> piece_of_;
  bool is_gated_ = false;
  HostLead own_host_lead_;
  HostLead& host_lead_;
  std::vector<std::int64_t> launched_ns_;  ///< [ops] their first kernel, by then; -1 = not known
  std::vector<int> follows_;               ///< [ops] the op whose end its start may tell; -1 = none
  std::vector<int> next_;                  ///< [ops] the op that follows it so; -1 = none
  /// [ubatches] of the phase before and the own one.
  std::vector<std::array<std::array<int, kNumPhases>, kNumPhases>> stamped_in_a_row_;
};

}  // namespace dovetail
