// Which ops of a schedule are done before another starts.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "framework/plan/schedule.hpp"

namespace dovetail {

inline constexpr std::size_t kNumLanes = 2;

inline std::size_t lane_index(const Op& op) {
  return static_cast<std::size_t>(op.lane);
}

/// Which ops are done before an op starts, in every run: the order that lanes and waits imply. With
/// a total order in each lane it is enough to keep, for each op, the last op of each lane that is
/// done before it (a vector clock).
class HappensBefore {
 public:
  /// Each op is on a lane, and waits for ops before it only. `ops` outlive it.
  explicit HappensBefore(std::span<const Op> ops);

  /// Of two ops by their index.
  bool operator()(int before, int after) const;

 private:
  using Clock = std::array<int, kNumLanes>;

  void include(Clock& clock, int done) const;

  std::span<const Op> ops_;
  std::vector<Clock> clocks_;
};

}  // namespace dovetail
