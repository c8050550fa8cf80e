// What tells when the ops of a captured step have ended.
#pragma once

#include <vector>

#include "framework/base/types.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// What is at the beginning of an op.
enum class OpHead {
  other,    ///< does not say when the op begins
  stamped,  ///< a kernel that writes a time stamp
  empty     ///< nothing: the op has enqueued no work
};

/// What is at the end of an op.
enum class OpTail {
  other,   ///< does not say when the op ends
  stamped  ///< a kernel that writes a time stamp
};

/// What says when an op has ended.
enum class EndKind {
  none,   ///< the pass leaves the op out
  event,  ///< an event at its end
  stamp,  ///< the time stamp at the beginning of the op that follows
  own,    ///< the time stamp at its own end
  start   ///< its own start: it is empty
};

struct EndSource {
  EndKind kind = EndKind::none;
  int op = -1;  ///< of a stamp: the op that follows

  friend bool operator==(const EndSource&, const EndSource&) = default;
};

/// [ops] `followed` [ops]: the op that each follows at once (OpPredecessors::followed_by), -1 =
/// none. `heads` [ops]: which ops are empty, and what those that follow one begin with; `tails`
/// [ops]: what they end with. The time stamp of the op that follows is preferred to the own one,
/// which is a little earlier than the op's true end.
std::vector<EndSource> find_ends(const Schedule& schedule,
                                 PassKind pass,
                                 const std::vector<int>& followed,
                                 const std::vector<OpHead>& heads,
                                 const std::vector<OpTail>& tails);

}  // namespace dovetail
