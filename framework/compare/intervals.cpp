#include "framework/compare/intervals.hpp"

#include <algorithm>

namespace dovetail {

IntervalSet::IntervalSet(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(), [](const Interval& a, const Interval& b) {
    return a.start_ns < b.start_ns;
  });
  for (const Interval& next : intervals) {
    if (next.end_ns <= next.start_ns) {
      continue;
    }
    if (!intervals_.empty() && next.start_ns <= intervals_.back().end_ns) {
      intervals_.back().end_ns = std::max(intervals_.back().end_ns, next.end_ns);
    } else {
      intervals_.push_back(next);
    }
  }
}

std::int64_t IntervalSet::length_ns() const {
  std::int64_t total = 0;
  for (const Interval& interval : intervals_) {
    total += interval.end_ns - interval.start_ns;
  }
  return total;
}

IntervalSet IntervalSet::united(const IntervalSet& other) const {
  std::vector<Interval> all = intervals_;
  all.insert(all.end(), other.intervals_.begin(), other.intervals_.end());
  return IntervalSet(std::move(all));
}

IntervalSet IntervalSet::intersected(const IntervalSet& other) const {
  IntervalSet result;
  auto a = intervals_.begin();
  auto b = other.intervals_.begin();
  while (a != intervals_.end() && b != other.intervals_.end()) {
    const Interval both{std::max(a->start_ns, b->start_ns), std::min(a->end_ns, b->end_ns)};
    if (both.start_ns < both.end_ns) {
      result.intervals_.push_back(both);
    }
    if (a->end_ns < b->end_ns) {
      ++a;
    } else {
      ++b;
    }
  }
  return result;
}

IntervalSet IntervalSet::minus(const IntervalSet& other) const {
  IntervalSet result;
  auto hole = other.intervals_.begin();
  for (const Interval& interval : intervals_) {
    std::int64_t start = interval.start_ns;
    while (hole != other.intervals_.end() && hole->end_ns <= start) {
      ++hole;
    }
    // A hole may reach into the next interval, so the outer position is not moved past it here.
    for (auto next = hole; next != other.intervals_.end() && next->start_ns < interval.end_ns;
         ++next) {
      if (start < next->start_ns) {
        result.intervals_.push_back({start, next->start_ns});
      }
      start = next->end_ns;
    }
    if (start < interval.end_ns) {
      result.intervals_.push_back({start, interval.end_ns});
    }
  }
  return result;
}

}  // namespace dovetail
