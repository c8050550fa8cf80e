#include "framework/plan/happens_before.hpp"

#include <algorithm>

namespace dovetail {

HappensBefore::HappensBefore(std::span<const Op> ops) : ops_(ops), clocks_(ops.size()) {
  std::array<int, kNumLanes> last_of_lane = {-1, -1};
  for (std::size_t i = 0; i < ops.size(); ++i) {
    Clock clock = {-1, -1};
    int& last = last_of_lane[lane_index(ops[i])];
    if (last >= 0) {
      include(clock, last);
    }
    for (const int wait : ops[i].waits) {
      include(clock, wait);
    }
    clocks_[i] = clock;
    last = static_cast<int>(i);
  }
}

bool HappensBefore::operator()(int before, int after) const {
  return before <= clocks_[static_cast<std::size_t>(after)]
                          [lane_index(ops_[static_cast<std::size_t>(before)])];
}

void HappensBefore::include(Clock& clock, int done) const {
  const auto i = static_cast<std::size_t>(done);
  for (std::size_t lane = 0; lane < kNumLanes; ++lane) {
    clock[lane] = std::max(clock[lane], clocks_[i][lane]);
  }
  int& own = clock[lane_index(ops_[i])];
  own = std::max(own, done);
}

}  // namespace dovetail
