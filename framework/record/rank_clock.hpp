// How a rank's clock stands to rank 0's, from estimates at several times: what puts the recorded
// times of all ranks on one line. Clocks of two hosts drift: 50 parts in a million are common, a
// tenth of a millisecond in two seconds.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dovetail {

/// An estimate: a row of /timing/clock.
struct ClockPoint {
  std::int64_t at_ns = -1;     ///< on the rank's clock; -1 = not estimated
  std::int64_t offset_ns = 0;  ///< what to add to get rank 0's clock
  std::int64_t error_ns = 0;   ///< |true offset - offset_ns| is at most this

  friend bool operator==(const ClockPoint&, const ClockPoint&) = default;
};

/// The columns of /timing/clock, in order.
inline constexpr const char* kClockColumns = "at_ns,offset_ns,error_ns";
inline constexpr int kNumClockColumns = 3;

/// The rows of /timing/clock: before round r row 2r, after it row 2r + 1, before and after the
/// profiled iterations the last two.
constexpr std::int64_t clock_points(std::int64_t rounds) {
  return 2 * rounds + 2;
}

/// The latest time and the largest offset of a clock that are believed, 73 years: differences of
/// them fit into an int64.
inline constexpr std::int64_t kMaxTimeNs = std::int64_t{1} << 61;

/// Why those of the points that were estimated are of no clock: none is, they do not ascend in
/// time, an error is negative, a number is too large, or the clock runs backwards on rank 0's.
/// Empty = they are. Pure.
std::string clock_problem(std::span<const ClockPoint> points);

/// Between two estimates the true offset is taken to lie on a line from somewhere within the bounds
/// of the first to somewhere within those of the second. The offset is then that line which drifts
/// least: none where the bounds overlap, so that what an estimate is unsure of does not look like
/// drift and bends no duration. Before the first and after the last point nothing drifts.
class RankClock {
 public:
  /// ContractError where they have a clock_problem.
  explicit RankClock(std::span<const ClockPoint> points);

  /// What to add to a time of the rank to get rank 0's clock.
  std::int64_t offset_ns(std::int64_t at_ns) const;

  /// |true offset - offset_ns| is at most this.
  std::int64_t error_ns(std::int64_t at_ns) const;

  /// Of all times between the first and the last point.
  std::int64_t largest_error_ns() const;

 private:
  struct Line {
    double offset_ns = 0;
    double low_ns = 0;  ///< bounds of the true offset
    double high_ns = 0;
  };

  Line line_at(std::int64_t at_ns) const;

  /// From that point on.
  Line line_behind(std::size_t point, std::int64_t at_ns) const;

  std::vector<ClockPoint> points_;
};

}  // namespace dovetail
