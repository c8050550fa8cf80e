#include "framework/exec/op_starts.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dovetail {
namespace {

void lower(std::int64_t& time_ns, std::int64_t bound_ns) {
  time_ns = std::min(time_ns, bound_ns);
}

std::int64_t most_lowered(const std::vector<std::int64_t>& before,
                          const std::vector<std::int64_t>& after) {
  std::int64_t most_ns = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    most_ns = std::max(most_ns, before[i] - after[i]);
  }
  return most_ns;
}

}  // namespace

std::int64_t fill_starts(const Schedule& schedule,
                         PassKind pass,
                         const OpsBefore& starts_behind,
                         OpTimes& times) {
  auto& start_ns = times.start_ns;
  auto& end_ns = times.end_ns;
  const auto taken_ends = end_ns;
  const auto end_of = [&](int op) -> std::int64_t& { return end_ns[static_cast<std::size_t>(op)]; };
  for (std::size_t i = schedule.ops.size(); i-- > 0;) {
    for (const int other : starts_behind[i]) {
      if (other >= 0 && runs_in(pass, schedule.ops[i].phase)) {
        lower(end_of(other), end_ns[i]);
      }
    }
  }
  auto most_ns = most_lowered(taken_ends, end_ns);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const auto& [before, wait_for] = starts_behind[i];
    if (!runs_in(pass, schedule.ops[i].phase)) {
      continue;
    }
    if (before >= 0 || wait_for >= 0) {
      start_ns[i] =
          std::max(before < 0 ? -1 : end_of(before), wait_for < 0 ? -1 : end_of(wait_for));
    } else {
      most_ns = std::max(most_ns, start_ns[i] - end_ns[i]);
      lower(start_ns[i], end_ns[i]);
    }
  }
  return most_ns;
}

}  // namespace dovetail
