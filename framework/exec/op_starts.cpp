#include "framework/exec/op_starts.hpp"

#include <algorithm>

namespace dovetail {

std::int64_t fill_starts(const Schedule& schedule,
                         PassKind pass,
                         const OpsBefore& starts_behind,
                         OpTimes& times) {
  std::int64_t apart_ns = 0;
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const auto& [before, wait_for] = starts_behind[i];
    if (!runs_in(pass, schedule.ops[i].phase) || (before < 0 && wait_for < 0)) {
      continue;
    }
    auto& start_ns = times.start_ns[i];
    auto& end_ns = times.end_ns[i];
    start_ns = -1;
    for (const int other : {before, wait_for}) {
      if (other >= 0) {
        start_ns = std::max(start_ns, times.end_ns[static_cast<std::size_t>(other)]);
      }
    }
    apart_ns = std::max(apart_ns, start_ns - end_ns);
    end_ns = std::max(end_ns, start_ns);
  }
  return apart_ns;
}

}  // namespace dovetail
