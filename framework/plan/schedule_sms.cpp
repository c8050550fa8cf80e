#include "framework/plan/schedule_sms.hpp"

#include <cstddef>

#include "framework/plan/happens_before.hpp"

namespace dovetail {

/// The ops of each lane are ordered, so the compute ops that are ordered behind an exchange are the
/// last ones of their lane, and those ordered ahead of it the first ones. What lies between runs
/// beside it, and it is enough to look at the first that is not ordered ahead. Exchanges have one
/// order, whatever lane they are on, so that this only moves on.
bool exchanges_beside_compute(const Schedule& schedule) {
  const auto& ops = schedule.ops;
  const HappensBefore happens_before(ops);
  std::size_t first = 0;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].lane != Lane::comm) {
      continue;
    }
    const auto is_ahead = [&](std::size_t other) {
      return ops[other].lane == Lane::comm || is_exchange(ops[other].phase) ||
             happens_before(static_cast<int>(other), static_cast<int>(i));
    };
    while (first < ops.size() && is_ahead(first)) {
      ++first;
    }
    if (first < ops.size() && !happens_before(static_cast<int>(i), static_cast<int>(first))) {
      return true;
    }
  }
  return false;
}

int schedule_sms(std::optional<int> stated, const Schedule& schedule) {
  return stated.value_or(exchanges_beside_compute(schedule) ? kSmsBesideCompute : kAllSms);
}

}  // namespace dovetail
