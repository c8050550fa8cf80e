// How often steps ran as graphs, and why they did not.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "framework/base/types.hpp"

namespace dovetail {

/// Counts of one rank; equal on all ranks, because what they count is agreed.
struct GraphCounters {
  std::int64_t captures = 0;
  std::int64_t replays = 0;
  std::int64_t evictions = 0;  ///< graphs dropped to make room
  std::int64_t failures = 0;   ///< captures that failed on at least one rank
  std::array<std::int64_t, names<EagerReason>().size()> eager_by_reason{};  ///< by EagerReason

  std::int64_t eager_steps() const {
    return std::accumulate(eager_by_reason.begin(), eager_by_reason.end(), std::int64_t{0});
  }

  std::int64_t& eager(EagerReason reason) {
    return eager_by_reason.at(static_cast<std::size_t>(reason));
  }

  std::int64_t eager(EagerReason reason) const {
    return eager_by_reason.at(static_cast<std::size_t>(reason));
  }

  GraphCounters& operator+=(const GraphCounters& other) {
    captures += other.captures;
    replays += other.replays;
    evictions += other.evictions;
    failures += other.failures;
    for (std::size_t reason = 0; reason < eager_by_reason.size(); ++reason) {
      eager_by_reason[reason] += other.eager_by_reason[reason];
    }
    return *this;
  }

  friend bool operator==(const GraphCounters&, const GraphCounters&) = default;
};

}  // namespace dovetail
