// What a rank file says of its clock.
#include <algorithm>
#include <string>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/record/reader.hpp"

namespace dovetail {

RankClock RankFile::clock() const {
  const auto refuse = [&](const std::string& what) {
    throw InputError(this->path().string() + ": " + what);
  };
  std::vector<ClockPoint> points;
  if (has(path::kClock)) {
    const auto rows = read<std::int64_t>(path::kClock).values;
    for (std::size_t i = 0; i + kNumClockColumns <= rows.size(); i += kNumClockColumns) {
      points.push_back({rows[i], rows[i + 1], rows[i + 2]});
    }
  }
  const char* place = path::kClock;
  if (std::none_of(points.begin(), points.end(), [](const auto& one) { return one.at_ns >= 0; })) {
    place = path::kTiming;
    points = {{0,
               integer(attribute::kClockOffsetNs, path::kTiming),
               integer(attribute::kClockErrorNs, path::kTiming)}};
  }
  if (const auto problem = clock_problem(points); !problem.empty()) {
    refuse(std::string(place) + ": " + problem);
  }
  return RankClock(points);
}

std::int64_t RankFile::device_clock_error_ns() const {
  return has_attribute(attribute::kDeviceClockErrorNs, path::kTiming)
             ? integer(attribute::kDeviceClockErrorNs, path::kTiming)
             : 0;
}

std::int64_t RankFile::clock_error_ns() const {
  return clock().largest_error_ns() + device_clock_error_ns();
}

}  // namespace dovetail
