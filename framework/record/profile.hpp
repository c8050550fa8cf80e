// The profiled steps of a rank file as a table of times on rank 0's clock: what the trace and
// the metrics are made of.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/record/reader.hpp"

namespace dovetail {

/// Start and end, ns on rank 0's clock; both -1 = did not run to its end.
struct RecordedSpan {
  std::int64_t start_ns = -1;
  std::int64_t end_ns = -1;

  bool ran() const { return start_ns >= 0; }

  friend bool operator==(const RecordedSpan&, const RecordedSpan&) = default;
};

/// One pass over the schedule.
struct RecordedPass {
  RecordedSpan step;
  std::vector<RecordedSpan> ops;  ///< one an op of the schedule; none of a pass without op times
};

/// One profiled step of one rank: the same schedule in its passes.
struct RecordedProfile {
  std::int64_t schedule = -1;          ///< index into RankFile::schedules(); -1 = did not run
  int num_passes = kNumProfilePasses;  ///< that the file has room for: the others are not known
  std::array<RecordedPass, kNumProfilePasses> passes;  ///< by ProfilePass; some are not run
  std::vector<std::int64_t> enqueued_ns;               ///< one an op, full pass; -1 = not known
  std::vector<std::int64_t> hand_off_wait_ns;          ///< one an op, full pass; -1 = not known
  std::int64_t clock_error_ns = 0;  ///< how far all these times may be off together

  bool ran() const { return schedule >= 0; }

  const RecordedPass& pass(ProfilePass kind) const {
    return passes[static_cast<std::size_t>(kind)];
  }

  /// False where the file is of a version that did not have the pass.
  bool knows(ProfilePass kind) const { return static_cast<int>(kind) < num_passes; }
};

/// All profiled steps, in order of iterations, then steps; empty where none was asked for. One
/// whose full pass did not run to its end has schedule -1 and no ops. RankFile::clock() puts
/// every time on rank 0's clock. Throws InputError naming file and dataset where shapes
/// contradict one another, a schedule is not in the file, or an end lies before its start.
std::vector<RecordedProfile> read_profiles(const RankFile& file);

}  // namespace dovetail
