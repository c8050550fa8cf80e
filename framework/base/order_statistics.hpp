// The median, and how many samples other percentiles take.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/base/check.hpp"

namespace dovetail {

/// Of an even number of samples the mean of the two in the middle. Reorders them. ContractError
/// without samples.
inline double median(std::vector<double>& samples) {
  DOVETAIL_CHECK(!samples.empty(), "a median needs samples");
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  if (samples.size() % 2 == 1) {
    return *middle;
  }
  return (*std::max_element(samples.begin(), middle) + *middle) / 2;
}

/// Whether a percentile above the median says more than the largest sample does: at least one
/// sample lies beyond it. The 95th takes 20 samples, the 99th 100. Pure.
constexpr bool has_percentile(std::int64_t num_samples, int percent) {
  return num_samples * (100 - percent) >= 100;
}

}  // namespace dovetail
