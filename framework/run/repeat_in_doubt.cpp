#include "framework/run/repeat_in_doubt.hpp"

#include <array>
#include <cstdint>

#include "framework/mpi/collectives.hpp"

namespace dovetail {

void repeat_in_doubt(const MpiComm& world,
                     const WaitPolicy& wait,
                     const std::function<bool()>& run) {
  for (int repeat = 0; repeat <= kMostRepeats; ++repeat) {
    std::array<std::int64_t, 1> doubts = {run() ? 1 : 0};
    all_reduce(world, doubts, Reduction::max, wait);
    if (doubts.front() == 0) {
      return;
    }
  }
}

}  // namespace dovetail
