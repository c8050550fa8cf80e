#include "framework/comm/exchange/nccl/partition_lanes.hpp"

#include <c10/cuda/CUDAGuard.h>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/stream_capture.hpp"

namespace dovetail {

LaneGraph::LaneGraph(const PartitionLanes& lanes,
                     const GraphPool& pool,
                     const LaneOps& compute,
                     const LaneOps& comm)
    : lanes_({lanes.compute, lanes.comm}),
      stamp_streams_({c10::cuda::getStreamFromPool(), c10::cuda::getStreamFromPool()}),
      begin_(Event::Kind::timing),
      order_(Event::Kind::order),
      memory_(pool, lanes.compute, lanes.comm) {
  DOVETAIL_CHECK(compute.count + comm.count > 0, "a graph of two empty lanes");
  StreamCapture capture(lanes_[0], lanes_[1]);
  begin_.record_external(lanes_[0]);
  order_.record(lanes_[0]);
  order_.hold(lanes_[1]);
  capture_lane(compute, 0);
  capture_lane(comm, 1);
  order_.record(lanes_[1]);
  order_.hold(lanes_[0]);
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (!ends_[lane].empty()) {
      order_.record(stamp_streams_[lane]);
      order_.hold(lanes_[0]);
    }
  }
  graph_ = capture.end();
  memory_.stop_taking();
  exec_ = GraphExec(graph_);
  exec_.upload(lanes_[0]);
}

void LaneGraph::capture_lane(const LaneOps& ops, std::size_t lane) {
  const c10::cuda::CUDAStreamGuard guard(lanes_[lane]);
  for (int i = 0; i < ops.count; ++i) {
    ops.run();
    stamp(lane);
  }
}

void LaneGraph::stamp(std::size_t lane) {
  order_.record(lanes_[lane]);
  order_.hold(stamp_streams_[lane]);
  ends_[lane].emplace_back(Event::Kind::timing);
  ends_[lane].back().record_external(stamp_streams_[lane]);
}

LaneMarks LaneGraph::replay() {
  exec_.launch(lanes_[0]);
  check_cuda(cudaStreamSynchronize(lanes_[0]), "the end of a replay");
  return {.compute = marks_of(0), .comm = marks_of(1)};
}

std::vector<double> LaneGraph::marks_of(std::size_t lane) const {
  std::vector<double> marks;
  marks.reserve(ends_[lane].size());
  for (const auto& end : ends_[lane]) {
    marks.push_back(Event::elapsed_ns(begin_, end) * 1e-3);
  }
  return marks;
}

}  // namespace dovetail
