#include "framework/exec/op_ends.hpp"

namespace dovetail {

std::vector<EndSource> find_ends(const Schedule& schedule,
                                 PassKind pass,
                                 const std::vector<int>& followed,
                                 const std::vector<OpHead>& heads) {
  std::vector<EndSource> ends(schedule.ops.size());
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      ends[i].kind = heads[i] == OpHead::empty ? EndKind::start : EndKind::event;
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
