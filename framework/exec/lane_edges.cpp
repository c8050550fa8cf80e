#include "framework/exec/lane_edges.hpp"

#include <algorithm>
#include <utility>

namespace dovetail {
namespace {

void include(std::array<int, 2>& clock, const std::array<int, 2>& other) {
  for (std::size_t lane = 0; lane < clock.size(); ++lane) {
    clock[lane] = std::max(clock[lane], other[lane]);
  }
}

}  // namespace

void find_lane_edges(const Schedule& schedule, PassKind pass, LaneEdges& edges) {
  const auto& ops = schedule.ops;
  edges.wait_for.assign(ops.size(), -1);
  edges.records.assign(ops.size(), 0);
  edges.before.assign(ops.size(), -1);
  edges.done_with.assign(ops.size(), {-1, -1});
  edges.uses_comm = false;
  std::array<int, 2> last_of_lane = {-1, -1};  // whether the pass runs it or not
  std::array<int, 2> last_run = {-1, -1};
  std::array<int, 2> waited_for = {-1, -1};  // of each lane: the latest op of the other lane
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto lane = static_cast<std::size_t>(ops[i].lane);
    auto& clock = edges.done_with[i];
    if (last_of_lane[lane] >= 0) {
      clock = edges.done_with[static_cast<std::size_t>(last_of_lane[lane])];
    }
    for (const int wait : ops[i].waits) {
      include(clock, edges.done_with[static_cast<std::size_t>(wait)]);
    }
    last_of_lane[lane] = static_cast<int>(i);
    if (!runs_in(pass, ops[i].phase)) {
      continue;
    }
    edges.before[i] = std::exchange(last_run[lane], static_cast<int>(i));
    edges.uses_comm |= ops[i].lane == Lane::comm;
    const int latest = clock[1 - lane];
    if (latest > waited_for[lane]) {
      waited_for[lane] = latest;
      edges.wait_for[i] = latest;
      edges.records[static_cast<std::size_t>(latest)] = 1;
    }
    clock[lane] = static_cast<int>(i);
  }
}

}  // namespace dovetail
