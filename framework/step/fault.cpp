#include "framework/step/fault.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>
#include <utility>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

void compute_for(std::chrono::steady_clock::duration time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

}  // namespace

InjectedFault::InjectedFault(const FaultConfig& fault, Rank rank, at::Device device)
    : fault_(fault), is_here_(fault.rank == rank.value) {
  if (is_here_ && is_data_fault(fault.kind)) {
    data_.emplace(fault, device);
  }
}

void InjectedFault::set_iteration(int iteration) {
  if (fault_.kind == FaultKind::delay) {
    return;
  }
  // Where no request has a context, no step begins in kContextIteration.
  const bool was_due = iteration_ == fault_.iteration ||
                       (iteration_ == kNever && fault_.iteration == kContextIteration);
  const bool is_over = was_due && iteration != iteration_ && iteration != fault_.iteration;
  const bool has_happened = data_ ? data_->has_acted() : fault_.iteration != kContextIteration;
  if (is_over && is_here_ && !has_happened) {
    throw RunError("the fault has not happened: " + describe(fault_) +
                   "; its step may have run without ubatches, or has no such op");
  }
  iteration_ = iteration;
  if (data_) {
    data_->set_active(iteration == fault_.iteration);
  }
}

void InjectedFault::set_capturing(bool is_capturing) {
  is_capturing_ = is_capturing;
  if (data_) {
    data_->set_capturing(is_capturing);
  }
}

bool InjectedFault::is_at(const Op& op) const {
  return op.ubatch == fault_.ubatch && op.layer == fault_.layer &&
         to_string(op.phase) == fault_.phase && group_index(op) == fault_.group;
}

void InjectedFault::set_delay(std::function<void(std::chrono::nanoseconds)> delay) {
  if (data_) {
    data_->set_delay(delay);
  }
  delay_ = std::move(delay);
}

void InjectedFault::check_step(const Schedule& schedule) const {
  const auto& ops = schedule.ops;
  if (is_here_ && fault_.kind == FaultKind::delay &&
      std::none_of(ops.begin(), ops.end(), [this](const Op& op) { return is_at(op); })) {
    throw RunError("the fault has not happened in a step of the schedule " + schedule.name + ": " +
                   describe(fault_) + "; a step without ubatches may have no such op");
  }
}

void InjectedFault::delay(const Op& op) const {
  if (!is_here_ || fault_.kind != FaultKind::delay || !is_at(op)) {
    return;
  }
  const auto time = std::chrono::microseconds(fault_.delay_us);
  if (delay_) {
    delay_(time);
  } else {
    compute_for(time);
  }
}

void InjectedFault::before(const Op& op) const {
  if (!is_here_ || iteration_ != fault_.iteration || !is_at(op)) {
    return;
  }
  switch (fault_.kind) {
    case FaultKind::exception:
      throw std::runtime_error("injected fault");
    case FaultKind::hang:
      std::this_thread::sleep_for(std::chrono::hours(1));
      break;
    case FaultKind::slow:
      compute_for(std::chrono::hours(1));
      break;
    case FaultKind::kill:
      std::raise(SIGKILL);
      break;
    case FaultKind::veto:
    case FaultKind::delay:
    case FaultKind::skipped_wait:
    case FaultKind::stale_buffer:
    case FaultKind::early_reuse:
    case FaultKind::swapped_tokens:
    case FaultKind::flipped_element:
    case FaultKind::wrong_expert:
    case FaultKind::dropped_weight:
    case FaultKind::stale_kv:
    case FaultKind::wrong_position:
      break;
    case FaultKind::capture:
      if (is_capturing_) {
        throw std::runtime_error("injected fault");
      }
      break;
  }
}

std::function<void(const Schedule&, PassKind, LaneEdges&)> edge_change(InjectedFault* fault) {
  if (fault == nullptr || fault->data() == nullptr) {
    return {};
  }
  return [data = fault->data()](const Schedule& schedule, PassKind pass, LaneEdges& edges) {
    data->change_edges(schedule, pass, edges);
  };
}

}  // namespace dovetail
