// Sets of time as sorted, disjoint, half-open intervals: the arithmetic under every overlap metric.
#pragma once

#include <cstdint>
#include <vector>

namespace dovetail {

/// [start_ns, end_ns); empty where end_ns <= start_ns.
struct Interval {
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;

  friend bool operator==(const Interval&, const Interval&) = default;
};

/// Whether it is one of an op that has run, and not the times (-1) of one that has not.
inline bool ran(const Interval& op) {
  return op.start_ns >= 0 && op.end_ns >= 0;
}

/// A set of time. Invariant: intervals are non-empty, ascending, and neither overlap nor touch.
class IntervalSet {
 public:
  IntervalSet() = default;

  /// The union of any intervals, in any order; empty ones are dropped.
  explicit IntervalSet(std::vector<Interval> intervals);

  const std::vector<Interval>& intervals() const { return intervals_; }

  /// Total length in nanoseconds.
  std::int64_t length_ns() const;

  /// Time in either, in both, in this but not in `other`. Linear in the number of intervals
  /// (the union: sorted again).
  IntervalSet united(const IntervalSet& other) const;
  IntervalSet intersected(const IntervalSet& other) const;
  IntervalSet minus(const IntervalSet& other) const;

  friend bool operator==(const IntervalSet&, const IntervalSet&) = default;

 private:
  std::vector<Interval> intervals_;
};

}  // namespace dovetail
