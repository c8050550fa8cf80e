// Times of the ops of one step, filled by the runner and the executor; preallocated, so that
// recording allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dovetail {

/// One entry an op of the schedule; -1 = the op did not run.
struct OpTimes {
  std::vector<std::int64_t> start_ns;     ///< the op begins to work (comm ops: on the comm worker)
  std::vector<std::int64_t> end_ns;       ///< the op's work is done
  std::vector<std::int64_t> enqueued_ns;  ///< its thread got the baton for the op
  std::vector<std::int64_t> hand_off_wait_ns;  ///< from the release by the op before it to
                                               ///< enqueued_ns; 0 without a change of thread
  /// What the call that ran the step has spent on reading these times behind the step's end: some
  /// us an op on a GPU. No part of the step.
  std::int64_t reading_ns = 0;
  /// By how much the end of an op may be too late, since the host was late with what tells it; 0 =
  /// all are right.
  std::int64_t doubt_ns = 0;

  void reset(std::size_t num_ops) {
    reading_ns = 0;
    doubt_ns = 0;
    for (auto* column : {&start_ns, &end_ns, &enqueued_ns, &hand_off_wait_ns}) {
      column->assign(num_ops, -1);
    }
  }
};

}  // namespace dovetail
