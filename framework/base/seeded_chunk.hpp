// A run of seeded values in memory, cut into aligned chunks that are written by one store each.
// Index arithmetic only, shared by kernels and by host tests of them.
#pragma once

#include <cstdint>

#include "framework/base/seeded_values.hpp"

namespace dovetail {

/// Bytes of a chunk: the widest store of a GPU thread.
inline constexpr std::int64_t kChunkStoreBytes = 16;

/// Elements [first, first + count) of a stream, as places of aligned chunks. Place 0 is the start
/// of the chunk in which the first element lies, so up to a chunk less one place comes before it.
struct ChunkedRun {
  std::int64_t count = 0;
  std::int64_t lead = 0;         ///< places before the first element
  std::int64_t num_chunks = 0;   ///< that hold an element
  std::int64_t first_block = 0;  ///< of the stream, which holds place 0; may be below 0, then none
                                 ///< of its values belongs to an element
  int offset = 0;                ///< of place 0 within that block: 0 to 3
};

/// `address` of the first element, a multiple of element_bytes; these are 2 or 4.
constexpr ChunkedRun cut_into_chunks(std::int64_t first,
                                     std::int64_t count,
                                     std::uintptr_t address,
                                     std::int64_t element_bytes) {
  const std::int64_t places = kChunkStoreBytes / element_bytes;
  ChunkedRun run;
  run.count = count;
  run.lead = static_cast<std::int64_t>(address % kChunkStoreBytes) / element_bytes;
  run.num_chunks = count == 0 ? 0 : (run.lead + count + places - 1) / places;
  const std::int64_t place0 = first - run.lead;
  run.offset = static_cast<int>((place0 % 4 + 4) % 4);
  run.first_block = (place0 - run.offset) / 4;
  return run;
}

/// Element at the first place of a chunk; may lie before element 0.
DOVETAIL_HOST_DEVICE constexpr std::int64_t first_element(const ChunkedRun& run,
                                                          std::int64_t chunk,
                                                          int places) {
  return chunk * places - run.lead;
}

/// Whether all places of the chunk that begins with this element hold elements.
DOVETAIL_HOST_DEVICE constexpr bool is_full_chunk(const ChunkedRun& run,
                                                  std::int64_t element,
                                                  int places) {
  return element >= 0 && element + places <= run.count;
}

/// Values of kPlaces places, the first of which is value kOffset of the given block of a stream.
/// With both known when compiled, the values stay in registers.
template <int kPlaces, int kOffset>
DOVETAIL_HOST_DEVICE void seeded_chunk(std::uint64_t seed,
                                       std::uint64_t stream,
                                       std::int64_t block,
                                       const SeededScale& scale,
                                       float (&values)[kPlaces]) {
  static_assert(kPlaces % 4 == 0 && kOffset >= 0 && kOffset < 4);
  constexpr int num_blocks = kPlaces / 4 + (kOffset > 0 ? 1 : 0);
  for (int i = 0; i < num_blocks; ++i) {
    const RandomBlock made = random_block(seed, stream, static_cast<std::uint64_t>(block + i));
    for (int word = 0; word < 4; ++word) {
      const int place = 4 * i + word - kOffset;
      if (place >= 0 && place < kPlaces) {
        values[place] = seeded_value(made.words[word], scale);
      }
    }
  }
}

/// One value of a stream.
DOVETAIL_HOST_DEVICE constexpr float seeded_value_at(std::uint64_t seed,
                                                     std::uint64_t stream,
                                                     std::int64_t index,
                                                     const SeededScale& scale) {
  const RandomBlock made = random_block(seed, stream, static_cast<std::uint64_t>(index / 4));
  return seeded_value(made.words[index % 4], scale);
}

}  // namespace dovetail
