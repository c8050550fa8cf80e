// Fault injection: makes one op of one rank fail in the way that an experiment asks for, so that
// failure paths can be tried.
#pragma once

#include "framework/base/ids.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Acts at the head of the configured op in the configured iteration, on the configured rank;
/// otherwise does nothing.
class InjectedFault {
 public:
  InjectedFault(const FaultConfig& fault, Rank rank)
      : fault_(fault), is_here_(fault.rank == rank.value) {}

  /// Iterations count from 0 over warm-up and timed iterations together; in -1 nothing happens.
  void set_iteration(int iteration) { iteration_ = iteration; }

  /// Whether the ops from now on are captured.
  void set_capturing(bool is_capturing) { is_capturing_ = is_capturing; }

  /// Whether this rank votes against ubatching in this iteration.
  bool vetoes() const {
    return is_here_ && fault_.kind == FaultKind::veto && iteration_ == fault_.iteration;
  }

  /// Throws, kills the process, or stays for an hour (far beyond every time-out), as the fault
  /// says. In the op's thread.
  void before(const Op& op) const;

 private:
  FaultConfig fault_;
  bool is_here_ = false;
  int iteration_ = -1;
  bool is_capturing_ = false;
};

}  // namespace dovetail
