// Graphs of ops on two lanes of a GPU, compute and exchange, with a time stamp at the end of each
// op: what `dovetail bench partition` runs.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/cuda/event.hpp"
#include "framework/cuda/graph.hpp"
#include "framework/cuda/graph_pool.hpp"

namespace dovetail {

/// Two streams of one GPU. `comm` has the higher priority.
struct PartitionLanes {
  c10::cuda::CUDAStream compute;
  c10::cuda::CUDAStream comm;
};

/// Ops of one lane: `run` enqueues one on the current stream. None = the lane is empty.
struct LaneOps {
  int count = 0;
  std::function<void()> run;
};

/// When the ops of a replay ended, microseconds behind its start.
struct LaneMarks {
  std::vector<double> compute;
  std::vector<double> comm;
};

/// One captured graph: the ops of each lane one behind the other, the lanes side by side. Made,
/// replayed and destroyed in the main thread. All that its ops refer to outlives it. Immovable.
class LaneGraph {
 public:
  /// Captures; ops must have run eagerly on the same streams. Each lane has one op at least, or is
  /// empty; not both. Throws RunError.
  LaneGraph(const PartitionLanes& lanes,
            const GraphPool& pool,
            const LaneOps& compute,
            const LaneOps& comm);
  LaneGraph(const LaneGraph&) = delete;
  LaneGraph& operator=(const LaneGraph&) = delete;
  LaneGraph(LaneGraph&&) = delete;
  LaneGraph& operator=(LaneGraph&&) = delete;
  ~LaneGraph() = default;

  /// Launches it and waits for its end, by the stream: a wait for the device would not wait for the
  /// lanes of a cut one. The exchange ends by its own time-out.
  LaneMarks replay();

 private:
  void capture_lane(const LaneOps& ops, std::size_t lane);
  void stamp(std::size_t lane);
  std::vector<double> marks_of(std::size_t lane) const;

  const std::array<c10::cuda::CUDAStream, 2> lanes_;
  /// Time stamps hang beside the lanes, so that no op waits for one.
  const std::array<c10::cuda::CUDAStream, 2> stamp_streams_;
  Event begin_;
  Event order_;
  std::array<std::vector<Event>, 2> ends_;
  // The executable dies before the template, and both before their memory.
  GraphMemory memory_;
  Graph graph_;
  GraphExec exec_;
};

}  // namespace dovetail
