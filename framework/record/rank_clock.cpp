#include "framework/record/rank_clock.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/record/schema_table.hpp"

namespace dovetail {
namespace {

/// Bounds of the true offset relative to that of the first point, so that doubles are exact.
struct Bounds {
  double low = 0;
  double high = 0;
};

Bounds bounds_of(const ClockPoint& point, std::int64_t origin_ns) {
  const auto middle = static_cast<double>(point.offset_ns - origin_ns);
  const auto error = static_cast<double>(point.error_ns);
  return {middle - error, middle + error};
}

/// The ends of the line from `a` to `b` that drifts least.
std::pair<double, double> least_drift(const Bounds& a, const Bounds& b) {
  if (a.high < b.low) {
    return {a.high, b.low};
  }
  if (b.high < a.low) {
    return {a.low, b.high};
  }
  const double shared = (std::max(a.low, b.low) + std::min(a.high, b.high)) / 2;
  return {shared, shared};
}

std::vector<ClockPoint> estimated(std::span<const ClockPoint> points) {
  std::vector<ClockPoint> found;
  std::copy_if(points.begin(), points.end(), std::back_inserter(found), [](const auto& point) {
    return point.at_ns >= 0;
  });
  return found;
}

bool is_believed(const ClockPoint& point) {
  return point.at_ns <= kMaxTimeNs && point.offset_ns >= -kMaxTimeNs &&
         point.offset_ns <= kMaxTimeNs && point.error_ns <= kMaxTimeNs;
}

std::int64_t error_of(double offset, double low, double high) {
  return static_cast<std::int64_t>(std::ceil(std::max(high - offset, offset - low)));
}

}  // namespace

std::string clock_problem(std::span<const ClockPoint> points) {
  const auto all = estimated(points);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& point = all[i];
    if (!is_believed(point)) {
      return std::string(attribute::kClockOffsetNs) + " " + std::to_string(point.offset_ns) +
             " is no offset of a clock";
    }
    if (point.error_ns < 0) {
      return std::string(attribute::kClockErrorNs) + " " + std::to_string(point.error_ns) +
             " is no bound of an error";
    }
    if (i == 0) {
      continue;
    }
    const auto& before = all[i - 1];
    const auto [from, to] =
        least_drift(bounds_of(before, before.offset_ns), bounds_of(point, before.offset_ns));
    if (before.at_ns >= point.at_ns ||
        from - to >= static_cast<double>(point.at_ns - before.at_ns)) {
      return "a clock that runs backwards at " + std::to_string(point.at_ns) + " ns";
    }
  }
  return all.empty() ? "no estimate of a clock" : "";
}

RankClock::RankClock(std::span<const ClockPoint> points) : points_(estimated(points)) {
  const auto problem = clock_problem(points_);
  DOVETAIL_CHECK(problem.empty(), problem);
}

RankClock::Line RankClock::line_behind(std::size_t point, std::int64_t at_ns) const {
  const auto& first = points_[point];
  const auto a = bounds_of(first, points_.front().offset_ns);
  if (point + 1 == points_.size()) {
    return {(a.low + a.high) / 2, a.low, a.high};
  }
  const auto& next = points_[point + 1];
  const auto b = bounds_of(next, points_.front().offset_ns);
  const auto [from, to] = least_drift(a, b);
  const double share = static_cast<double>(std::max<std::int64_t>(0, at_ns - first.at_ns)) /
                       static_cast<double>(next.at_ns - first.at_ns);
  return {
      std::lerp(from, to, share), std::lerp(a.low, b.low, share), std::lerp(a.high, b.high, share)};
}

/// Before the first point as at it.
RankClock::Line RankClock::line_at(std::int64_t at_ns) const {
  const auto next = std::upper_bound(
      points_.begin(), points_.end(), at_ns, [](std::int64_t time, const ClockPoint& point) {
        return time < point.at_ns;
      });
  const auto behind = std::max<std::ptrdiff_t>(1, next - points_.begin()) - 1;
  return line_behind(static_cast<std::size_t>(behind), at_ns);
}

std::int64_t RankClock::offset_ns(std::int64_t at_ns) const {
  return points_.front().offset_ns + std::llround(line_at(at_ns).offset_ns);
}

std::int64_t RankClock::error_ns(std::int64_t at_ns) const {
  const auto line = line_at(at_ns);
  return error_of(line.offset_ns, line.low_ns, line.high_ns);
}

/// Lines have their largest errors at their ends.
std::int64_t RankClock::largest_error_ns() const {
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < points_.size(); ++i) {
    for (const auto at_ns :
         {points_[i].at_ns, points_[std::min(i + 1, points_.size() - 1)].at_ns}) {
      const auto line = line_behind(i, at_ns);
      largest = std::max(largest, error_of(line.offset_ns, line.low_ns, line.high_ns));
    }
  }
  return largest;
}

}  // namespace dovetail
