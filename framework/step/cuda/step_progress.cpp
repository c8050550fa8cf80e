#include "framework/step/cuda/step_progress.hpp"

#include "framework/exec/executor.hpp"

namespace dovetail {
namespace {

std::string describe_lane(const Schedule& schedule,
                          PassKind pass,
                          Lane lane,
                          const std::function<const Event*(std::size_t)>& event_after) {
  std::string last_done = "its first op";
  bool has_ops = false;
  const auto text = [&](const std::string& first_open) {
    return "; " + std::string(to_string(lane)) + " lane: between " + last_done + " and the end" +
           first_open;
  };
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (op.lane != lane || !runs_in(pass, op.phase)) {
      continue;
    }
    has_ops = true;
    const Event* event = event_after(i);
    if (event == nullptr) {
      continue;
    }
    const std::string name = describe_op(static_cast<int>(i), op);
    if (!event->is_done()) {
      return text(" of " + name);
    }
    last_done = "what follows " + name;
  }
  return has_ops ? text("") : std::string();
}

}  // namespace

std::string describe_progress(const Schedule& schedule,
                              PassKind pass,
                              const std::function<const Event*(std::size_t)>& event_after) {
  return describe_lane(schedule, pass, Lane::compute, event_after) +
         describe_lane(schedule, pass, Lane::comm, event_after);
}

}  // namespace dovetail
