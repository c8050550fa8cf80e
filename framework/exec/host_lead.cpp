#include "framework/exec/host_lead.hpp"

#include <algorithm>

#include "framework/base/check.hpp"

namespace dovetail {

void HostLead::begin_step(const Schedule& schedule, PassKind pass, bool in_pieces) {
  now_ = &steps_ahead_[{schedule.name, schedule.ops.size(), pass, in_pieces}];
  now_->resize(schedule.ops.size(), 0);
}

bool HostLead::is_expected(std::size_t op) const {
  DOVETAIL_CHECK(now_ != nullptr, "no step has begun");
  return now_->at(op) >= kExpectedSteps;
}

bool HostLead::tells_end(std::size_t op, std::int64_t launched_ns, std::int64_t end_ns) {
  const std::int64_t lead_ns = end_ns - launched_ns;
  const bool was_expected = is_expected(op);
  const bool is_right = lead_ns > kLeastNs;
  int& steps = now_->at(op);
  if (was_expected && !is_right) {
    steps = kExpectedSteps - kStepsOfDoubt;
  } else if (lead_ns > kExpectedNs) {
    steps = std::min(steps + 1, kExpectedSteps);
  } else if (!was_expected) {
    steps = std::min(steps, 0);
  }
  return is_right;
}

}  // namespace dovetail
