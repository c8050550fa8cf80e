// Which op of a captured step begins as soon as another has ended, so that one time stamp tells
// both.
#pragma once

#include <vector>

#include "framework/base/types.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// [ops] the op that each op of the pass follows at once; -1 = none. At most one op follows
/// another.
///
/// Op j follows op i where nothing but the end of i can hold j back: each op that j must come after
/// is i, or comes before i. An op of the comm lane follows none where a compute op may run beside
/// it: its first kernel may have to wait for SMs, and this wait is part of the op, not of the one
/// before. (Ops of the comm lane leave most SMs free, so a compute op beside them begins at once.)
///
/// `edges` are those of the schedule and the pass, as the graph has them.
std::vector<int> find_followed(const Schedule& schedule, PassKind pass, const LaneEdges& edges);

/// What is at the beginning of an op that follows another one.
enum class OpHead {
  other,    ///< does not say when the op begins
  stamped,  ///< a kernel that writes a time stamp
  empty     ///< nothing: the op has enqueued no work
};

/// What says when an op has ended.
struct EndSource {
  int op = -1;                     ///< -1 = the pass leaves the op out
  bool is_start_of_other = false;  ///< the time stamp at the beginning of `op`, which follows; else
                                   ///< an event at the end of `op`: of this op, or of one that
                                   ///< follows and is empty

  friend bool operator==(const EndSource&, const EndSource&) = default;
};

/// [ops] for `followed` as above and `heads` [ops] of the ops that follow one.
std::vector<EndSource> find_ends(const Schedule& schedule,
                                 PassKind pass,
                                 const std::vector<int>& followed,
                                 const std::vector<OpHead>& heads);

}  // namespace dovetail
