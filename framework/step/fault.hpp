// Fault injection: makes one op of one rank fail, late, or its results wrong, in the way that an
// experiment asks for, so that failure paths and checks can be tried.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "framework/base/ids.hpp"
#include "framework/config/fault_config.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/step/data_fault.hpp"

namespace dovetail {

/// Acts at the configured op in the configured iteration, on the configured rank; otherwise does
/// nothing. A delay acts in every step, whatever its iteration and pass, as a slower kernel would.
class InjectedFault {
 public:
  static constexpr int kNever = -2;

  /// `device`: of the rank's tensors.
  InjectedFault(const FaultConfig& fault, Rank rank, at::Device device);

  /// Iterations count from 0 over warm-up and timed iterations together, and kContextIteration is
  /// before them; in kNever nothing happens. Between steps, as DataFault::set_active. Throws
  /// RunError where the fault's iteration is over and it has not happened though it must: a data
  /// fault, which would be taken for one that nobody noticed, and one of the contexts, which no
  /// other policy computes.
  void set_iteration(int iteration);

  /// Whether the ops from now on are captured.
  void set_capturing(bool is_capturing);

  /// What keeps an op back: of a device, it enqueues that on the current stream. Unset, on the CPU:
  /// the op's thread computes for as long. Before the first step.
  void set_delay(std::function<void(std::chrono::nanoseconds)> delay);

  /// Throws RunError where this rank's delay has no op in the step's schedule: what is in some
  /// steps only makes no difference of a known size. Between steps.
  void check_step(const Schedule& schedule) const;

  /// Whether this rank votes against ubatching in this iteration.
  bool vetoes() const {
    return is_here_ && fault_.kind == FaultKind::veto && iteration_ == fault_.iteration;
  }

  /// Throws, kills the process, or stays for an hour (far beyond every time-out), asleep or
  /// computing, as the fault says. In the op's thread; of an op that a graph holds, in the thread
  /// that launches the graph.
  void before(const Op& op) const;

  /// At the head of an op that runs or is captured, in its thread, behind before(): keeps it back.
  /// A replay has what was captured.
  void delay(const Op& op) const;

  /// Whether it can be of the steps that fill the contexts.
  bool may_be_in_contexts() const { return !is_silent(fault_.kind); }

  /// Null unless it is a data fault of this rank.
  DataFault* data() { return data_ ? &*data_ : nullptr; }

 private:
  bool is_at(const Op& op) const;

  FaultConfig fault_;
  bool is_here_ = false;
  int iteration_ = kNever;
  bool is_capturing_ = false;
  std::function<void(std::chrono::nanoseconds)> delay_;
  std::optional<DataFault> data_;
};

/// What an executor does to the edges that it has found; empty where there is no such fault.
/// `fault` may be null, and outlives the result.
std::function<void(const Schedule&, PassKind, LaneEdges&)> edge_change(InjectedFault* fault);

}  // namespace dovetail
