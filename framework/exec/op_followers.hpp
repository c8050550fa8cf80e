// Which op of a captured step begins as soon as another has ended, so that one time stamp tells
// both.
#pragma once

#include <vector>

#include "framework/base/types.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// [ops] the op that each op of the pass follows at once where no op is empty; -1 = none
/// (OpPredecessors::followed_by). At most one op follows another. `edges` are those of the schedule
/// and the pass, as the graph has them.
std::vector<int> find_followed(const Schedule& schedule, PassKind pass, const LaneEdges& edges);

/// What is at the beginning of an op.
enum class OpHead {
  other,    ///< does not say when the op begins
  stamped,  ///< a kernel that writes a time stamp
  empty     ///< nothing: the op has enqueued no work
};

/// What says when an op has ended.
enum class EndKind {
  none,   ///< the pass leaves the op out
  event,  ///< an event at its end
  stamp,  ///< the time stamp at the beginning of the op that follows
  start   ///< its own start: it is empty
};

struct EndSource {
  EndKind kind = EndKind::none;
  int op = -1;  ///< of a stamp: the op that follows

  friend bool operator==(const EndSource&, const EndSource&) = default;
};

/// [ops] `followed`: as above, with the empty ops left out; `heads` [ops] says which these are, and
/// of ops that follow one what they begin with.
std::vector<EndSource> find_ends(const Schedule& schedule,
                                 PassKind pass,
                                 const std::vector<int>& followed,
                                 const std::vector<OpHead>& heads);

}  // namespace dovetail
