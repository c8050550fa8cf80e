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

bool is_empty(const std::vector<EndSource>& ends, std::size_t op) {
  return !ends.empty() && ends[op].kind == EndKind::start;
}

/// What begins behind an empty op begins behind what that one does.
OpsBefore without_empty(const OpsBefore& starts_behind, const std::vector<EndSource>& ends) {
  OpsBefore all(starts_behind.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (const int other : starts_behind[i]) {
      const auto before = static_cast<std::size_t>(other);
      if (is_empty(ends, before)) {
        all[i].insert(all[i].end(), all[before].begin(), all[before].end());
      } else {
        all[i].push_back(other);
      }
    }
  }
  return all;
}

}  // namespace

std::int64_t fill_starts(const Schedule& schedule,
                         PassKind pass,
                         const OpsBefore& given,
                         const std::vector<EndSource>& ends,
                         OpTimes& times) {
  const OpsBefore starts_behind = without_empty(given, ends);
  auto& start_ns = times.start_ns;
  auto& end_ns = times.end_ns;
  const auto taken_ends = end_ns;
  const auto runs = [&](std::size_t op) { return runs_in(pass, schedule.ops[op].phase); };
  for (std::size_t i = schedule.ops.size(); i-- > 0;) {
    if (runs(i) && !is_empty(ends, i)) {
      for (const int other : starts_behind[i]) {
        lower(end_ns[static_cast<std::size_t>(other)], end_ns[i]);
      }
    }
  }
  auto most_ns = most_lowered(taken_ends, end_ns);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (!runs(i)) {
      continue;
    }
    for (const int other : starts_behind[i]) {
      start_ns[i] = std::max(start_ns[i], end_ns[static_cast<std::size_t>(other)]);
    }
    if (start_ns[i] >= 0 && is_empty(ends, i)) {
      end_ns[i] = start_ns[i];
    }
    most_ns = std::max(most_ns, start_ns[i] - end_ns[i]);
    lower(start_ns[i], end_ns[i]);
  }
  return most_ns;
}

void use_own_starts(const std::vector<std::int64_t>& begun_ns,
                    const std::vector<std::int64_t>& own_start_ns,
                    const OpsBefore& starts_behind,
                    OpTimes& times) {
  for (std::size_t i = 0; i < begun_ns.size(); ++i) {
    if (own_start_ns[i] < 0 || begun_ns[i] < 0 || times.start_ns[i] != begun_ns[i]) {
      continue;
    }
    std::int64_t start_ns = own_start_ns[i];
    for (const int other : starts_behind[i]) {
      start_ns = std::max(start_ns, times.end_ns[static_cast<std::size_t>(other)]);
    }
    times.start_ns[i] = std::min(start_ns, times.end_ns[i]);
  }
}

}  // namespace dovetail
