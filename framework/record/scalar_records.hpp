// Records whose fields are scalars of a rank file, and the rows of those.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "framework/base/graph_counters.hpp"
#include "framework/record/schema_table.hpp"

namespace dovetail {

/// Bytes of a rank's device; -1 = not known.
struct MemoryRecord {
  std::int64_t peak_reserved = -1;   ///< most that the allocator held of the device
  std::int64_t peak_allocated = -1;  ///< most of it that tensors held
  std::int64_t weights = -1;
  std::int64_t cache = -1;     ///< of keys and values
  std::int64_t exchange = -1;  ///< buffers of the exchange

  friend bool operator==(const MemoryRecord&, const MemoryRecord&) = default;
};

/// The row of each of its fields.
inline constexpr std::array kMemoryFields = {
    std::pair(path::kPeakReservedBytes, &MemoryRecord::peak_reserved),
    std::pair(path::kPeakAllocatedBytes, &MemoryRecord::peak_allocated),
    std::pair(path::kWeightsBytes, &MemoryRecord::weights),
    std::pair(path::kCacheBytes, &MemoryRecord::cache),
    std::pair(path::kExchangeBytes, &MemoryRecord::exchange)};

/// The rows of the counters that are scalars.
inline constexpr std::array kGraphCounterFields = {
    std::pair(path::kGraphCaptures, &GraphCounters::captures),
    std::pair(path::kGraphReplays, &GraphCounters::replays),
    std::pair(path::kGraphEvictions, &GraphCounters::evictions),
    std::pair(path::kGraphFailures, &GraphCounters::failures)};

}  // namespace dovetail
