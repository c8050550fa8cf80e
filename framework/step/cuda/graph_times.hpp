// How the times of ops get into a full graph that is being captured.
#pragma once

#include <array>
#include <cstddef>

#include <c10/cuda/CUDAStream.h>

#include "framework/cuda/event.hpp"
#include "framework/exec/op_predecessors.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/step/cuda/step_events.hpp"

namespace dovetail {

/// By time stamps that kernels write (time_stamp.hpp), at the start of ops that follow another one
/// (OpPredecessors) and begin with such a kernel. Empty ops need none. Where there is none by nodes
/// that record an event: they hang beside the kernels of their lane, so that nothing waits for
/// them, but the fork to one costs its lane about 1 us. Main thread, but for run.
class GraphTimes {
 public:
  explicit GraphTimes(c10::DeviceIndex device);

  /// Ahead of each capture: forgets one that has failed.
  void begin_step() { has_nodes_ = {}; }

  /// Adds a node that records `event`, which is of this graph alone, once what `stream` has been
  /// given is done. By the thread that holds the baton.
  cudaGraphNode_t add_event(Lane lane, const Event& event, cudaStream_t stream);

  /// Runs the op in the thread that holds the baton, and keeps what it starts behind and, if that
  /// is one op, whether it begins with a time stamp. `stream`, of its lane, waits for what the op
  /// waits for.
  static void run(StepBody& body,
                  const Op& op,
                  std::size_t index,
                  const OpPredecessors& predecessors,
                  StepEvents& events,
                  cudaStream_t stream);

  /// Right behind that, with everything of the op on `stream`: adds an event at the op's end,
  /// unless the op is empty.
  void leave(const Op& op,
             std::size_t index,
             const OpPredecessors& predecessors,
             StepEvents& events,
             cudaStream_t stream);

  /// Of a graph whose capture is over: takes out the events in whose place the op behind has turned
  /// out to write a time stamp. To add, at the end, those that are needed will not do: a graph's
  /// nodes are launched about in the order in which they were made, so these would wait for work
  /// that has nothing to do with them.
  static void take_out_needless_events(const Schedule& schedule, PassKind pass, StepEvents& events);

  /// Makes `stream` wait for all nodes: a capture ends on one stream only.
  void join(cudaStream_t stream);

 private:
  std::array<c10::cuda::CUDAStream, 2> streams_;  ///< of the nodes beside each lane
  std::array<bool, 2> has_nodes_ = {};            ///< the streams are part of the capture
  Event mark_;
};

}  // namespace dovetail
