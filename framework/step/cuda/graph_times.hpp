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

/// By time stamps that kernels write (time_stamp.hpp): at the start of ops that follow another one
/// (OpPredecessors) and begin with such a kernel, and at the end of ops that end with one. A kernel
/// that does nothing else is added ahead of the step and behind it. Empty ops need none. Where
/// there is none by nodes that record an event: they hang beside the kernels of their lane, so that
/// nothing waits for them. But a chain of kernels with a single event beside it is slower by 0.1 us
/// a kernel than without any. Main thread, but for run.
class GraphTimes {
 public:
  explicit GraphTimes(c10::DeviceIndex device);

  /// Ahead of each capture: forgets one that has failed.
  void begin_step(const Schedule& schedule, PassKind pass);

  /// Ahead of an op that starts behind no other one: adds a kernel that writes its start.
  static void enter(std::size_t index, const StepEvents& events, cudaStream_t stream);

  /// Runs the op in the thread that holds the baton, and keeps what it starts behind, whether it
  /// begins with a time stamp, if that is one op, and whether it ends with one. `stream`, of its
  /// lane, waits for what the op waits for.
  static void run(StepBody& body,
                  const Op& op,
                  std::size_t index,
                  const OpPredecessors& predecessors,
                  StepEvents& events,
                  cudaStream_t stream);

  /// Right behind that, with everything of the op on `stream`: adds an event at the op's end, or a
  /// kernel that writes the time where no op comes behind it, unless the op is empty.
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
  /// Adds a node that records `event`, which is of this graph alone, once what `stream` has been
  /// given is done.
  cudaGraphNode_t add_event(Lane lane, const Event& event, cudaStream_t stream);

  int last_op_ = -1;                              ///< behind which the pass runs no other
  std::array<c10::cuda::CUDAStream, 2> streams_;  ///< of the nodes beside each lane
  std::array<bool, 2> has_nodes_ = {};            ///< the streams are part of the capture
  Event mark_;
};

}  // namespace dovetail
