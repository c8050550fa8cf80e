#include "framework/exec/op_ends.hpp"

namespace dovetail {

namespace {

/// Where no op that follows tells it.
EndKind own_end(OpHead head, OpTail tail) {
  if (head == OpHead::empty) {
    return EndKind::start;
  }
  return tail == OpTail::stamped ? EndKind::own : EndKind::event;
}

}  // namespace

std::vector<EndSource> find_ends(const Schedule& schedule,
                                 PassKind pass,
                                 const std::vector<int>& followed,
                                 const std::vector<OpHead>& heads,
                                 const std::vector<OpTail>& tails) {
  std::vector<EndSource> ends(schedule.ops.size());
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      ends[i].kind = own_end(heads[i], tails[i]);
    }
  }
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (followed[i] >= 0 && heads[i] == OpHead::stamped) {
      ends[static_cast<std::size_t>(followed[i])] = {EndKind::stamp, static_cast<int>(i)};
    }
  }
  return ends;
}

}  // namespace dovetail
