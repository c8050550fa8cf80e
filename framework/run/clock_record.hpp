// How the ranks' clocks stand to rank 0's while a policy runs: estimated before and after each of
// its rounds and before and after its profiled iterations, outside of what is timed.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/mpi/clock.hpp"
#include "framework/record/rank_clock.hpp"
#include "framework/record/recorder.hpp"
#include "framework/run/run_context.hpp"

namespace dovetail {

/// An estimate as rank files have it: what to add to this rank's clock, where the estimate is this
/// clock minus rank 0's. Pure.
ClockPoint clock_point(const ClockOffset& offset);

class ClockRecord {
 public:
  /// `run` and `recorder` outlive it.
  ClockRecord(const RunContext& run, RankRecorder& recorder, int num_rounds);

  /// Estimates and records a row of /timing/clock, once more where it was. Collective over the
  /// world, some 50 round trips a rank.
  void estimate(std::int64_t row);

  /// Makes the offset between the last two rows, which are estimated, the one of the attributes,
  /// for readers that want one number.
  void write_offset();

 private:
  const RunContext& run_;
  RankRecorder& recorder_;
  std::vector<ClockPoint> rows_;
};

}  // namespace dovetail
