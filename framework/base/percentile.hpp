// How many samples a percentile takes.
#pragma once

#include <cstdint>

namespace dovetail {

/// Whether a percentile above the median says more than the largest sample does: at least one
/// sample lies beyond it. The 95th takes 20 samples, the 99th 100. Pure.
constexpr bool has_percentile(std::int64_t num_samples, int percent) {
  return num_samples * (100 - percent) >= 100;
}

}  // namespace dovetail
