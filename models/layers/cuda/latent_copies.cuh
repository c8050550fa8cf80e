// How decode over latents brings tiles of keys to shared memory, ahead of those who multiply.
#pragma once

#include <cstdint>

#include "models/layers/cuda/bulk_copies.cuh"
#include "models/layers/cuda/latent_decode.cuh"
#include "models/layers/cuda/latent_schedule.cuh"

namespace dovetail::gpu::latent {

inline constexpr int kSchedulingWarp = 3;  // of the warpgroup that does not multiply

/// The slot of the key at `place` of a part.
__device__ __forceinline__ int slot_of(const Call& x, const Part& part, int place) {
  const int key = part.begin + place;
  const std::int32_t* const table =
      x.segments.block_tables + part.segment * x.segments.table_stride;
  return __ldg(table + key / x.page_size) * x.page_size + key % x.page_size;
}

/// The first slot of a lane's box of a tile; any for a box behind the last key.
__device__ __forceinline__ int box_slot(const Call& x, const Part& part, int tile) {
  const int place = static_cast<int>(threadIdx.x) % kWarpSize * x.box_keys;
  const int key = tile * kTileKeys + place;
  return place < kTileKeys && key < part.num_keys() ? slot_of(x, part, key) : 0;
}

/// Copies boxes of the tiles of all parts, as far as there are keys; of one warp, one lane of which
/// begins copies.
template <bool kForTwins>
class BoxLoader {
 public:
  static constexpr int kSlabsOfWarp = 2;

  __device__ BoxLoader(const Call& x, Shared& shared)
      : x_(x), shared_(shared), rank_(kForTwins ? static_cast<int>(twin_rank()) : 0) {}

  /// kSlabsOfWarp slabs of each half of the values, from `first` on.
  __device__ __forceinline__ void copy_values(int first) {
    for_tiles([&](int tile, int first_tile, int keys) {
#pragma unroll 1
      for (int half = 2 * tile; half < 2 * tile + 2; ++half) {
        const int slot = half % kSlots;
        if (half >= kSlots) {
          shared_.values_used[slot].wait(half / kSlots - 1);
        }
        const int side = summing_warpgroup(half, first_tile);
        begin<kSlabsOfWarp>(keys,
                            shared_.values[slot] + first * kSlabBytes,
                            side * kHalfDim + first * kSlabColumns,
                            shared_.values_there[slot] + first,
                            /*copying_twin=*/side);
      }
    });
  }

  /// The rest of the keys.
  __device__ __forceinline__ void copy_rest() {
    for_tiles([&](int tile, int /*first_tile*/, int keys) {
      if (tile > 0) {
        shared_.rest_used.wait(tile - 1);
      }
      begin<1>(keys,
               shared_.rest,
               kLatentValueDim,
               &shared_.rest_there[tile % 2],
               /*copying_twin=*/tile % 2);
    });
  }

 private:
  /// work(tile, the first one of its part, keys of the tile) for all tiles of all parts.
  template <class Work>
  __device__ __forceinline__ void for_tiles(Work work) {
    int first_tile = 0;
    next_slots_ = first_slots(0);
    for (int number = 0;; ++number) {
      const Part& part = shared_.parts.await(number);
      if (part.row < 0) {
        return;
      }
      const int tiles = part.num_tiles();
#pragma unroll 1
      for (int tile = 0; tile < tiles; ++tile) {
        // A tile ahead, so that nothing waits for the block table.
        slots_ = next_slots_;
        next_slots_ = tile + 1 < tiles ? box_slot(x_, part, tile + 1) : first_slots(number + 1);
        work(first_tile + tile, first_tile, min(part.num_keys() - tile * kTileKeys, kTileKeys));
      }
      first_tile += tiles;
      shared_.parts.leave(number);
    }
  }

  __device__ __forceinline__ int first_slots(int number) const {
    const Part& part = shared_.parts.await(number);
    return part.row < 0 ? 0 : box_slot(x_, part, 0);
  }

  /// Both blocks of a cluster await the bytes that one of them copies for both.
  template <int kSlabs>
  __device__ __forceinline__ void begin(
      int keys, unsigned char* to, int column, SharedBarrier* there, int copying_twin) const {
    const int boxes = (keys + x_.box_keys - 1) / x_.box_keys;
    const bool elected = threadIdx.x % kWarpSize == 0;
    if (elected) {
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        there[slab].arrive_expecting(boxes * x_.box_keys * kSlabRowBytes);
      }
    }
    if (kForTwins && copying_twin != rank_) {
      return;
    }
    const std::uint64_t policy = evict_first();
#pragma unroll 1
    for (int box = 0; box < boxes; ++box) {
      const int row = __shfl_sync(kAllLanes, slots_, box);
      if (elected) {
#pragma unroll
        for (int slab = 0; slab < kSlabs; ++slab) {
          begin_box<kForTwins>(to + slab * kSlabBytes + box * x_.box_keys * kSlabRowBytes,
                               x_.boxes,
                               column + slab * kSlabColumns,
                               row,
                               there[slab],
                               policy);
        }
      }
    }
  }

  const Call& x_;
  Shared& shared_;
  const int rank_;
  int slots_;
  int next_slots_;
};

/// Copies the keys of all tiles of the block's only part, if it has one; of one warpgroup. Eight
/// lanes take 128 bytes of a key at once.
class RowLoader {
 public:
  __device__ RowLoader(const Call& x, Shared& shared)
      : x_(x), shared_(shared), part_(shared.parts.await(0)) {}

  __device__ __forceinline__ void copy() {
    const int tiles = part_.row < 0 ? 0 : part_.num_tiles();
    for (int tile = 0; tile < tiles; ++tile) {
      look_up(tile);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int half = 2 * tile + i;
        const int slot = half % kSlots;
        if (half >= kSlots) {
          shared_.values_used[slot].wait(half / kSlots - 1);
        }
        begin<kHalfSlabs>(shared_.values[slot],
                          summing_warpgroup(half, 0) * kHalfDim,
                          shared_.values_there[slot]);
      }
      if (tile > 0) {
        shared_.rest_used.wait(tile - 1);
      }
      begin<1>(shared_.rest, kLatentValueDim, &shared_.rest_there[tile % 2]);
    }
    await_copies<0>();
  }

 private:
  static constexpr int kRowsOfThread = kTileKeys * 8 / kWarpgroup;

  __device__ static int thread() {
    return static_cast<int>(threadIdx.x) % kWarpgroup;
  }

  /// Behind the last key its own slot is read: what lies there is finite, and does not count.
  __device__ __forceinline__ void look_up(int tile) {
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int key = tile * kTileKeys + thread() / 8 + i * (kWarpgroup / 8);
      slots_[i] = slot_of(x_, part_, min(key, part_.num_keys() - 1));
    }
  }

  template <int kSlabs>
  __device__ __forceinline__ void begin(unsigned char* to, int column, SharedBarrier* there) const {
    const int chunk = thread() % 8;
    const unsigned base = shared_address(to);
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int row = thread() / 8 + i * (kWarpgroup / 8);
      const bf16* const from =
          x_.latents + std::int64_t{slots_[i]} * kLatentKeyDim + column + chunk * 8;
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        copy_chunk(base + slab * kSlabBytes + swizzled(row, chunk), from + slab * kSlabColumns);
      }
    }
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      there[slab].arrive_behind_copies();
    }
  }

  const Call& x_;
  Shared& shared_;
  const Part& part_;
  int slots_[kRowsOfThread];
};

/// What the warpgroup does that does not multiply.
template <Copies kCopies>
__device__ __forceinline__ void copy_ahead(const Call& x, Shared& shared) {
  const int warp =
      __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize, 0);
  const bool schedules = warp == kSchedulingWarp;
  Schedule schedule(x, shared);
  if (schedules) {
    schedule.run();
  }
  if constexpr (kCopies == Copies::rows) {
    RowLoader(x, shared).copy();  // by all warps, so a block has one part
  } else if (!schedules) {
    BoxLoader<kCopies == Copies::twin_boxes> loader(x, shared);
    constexpr int slabs = BoxLoader<false>::kSlabsOfWarp;
    constexpr int warps = kHalfSlabs / slabs;
    static_assert(warps < kSchedulingWarp);
    if (warp < warps) {
      loader.copy_values(warp * slabs);
    } else {
      loader.copy_rest();
    }
  }
  if (schedules) {
    schedule.zero_padding_rows();
  }
}

}  // namespace dovetail::gpu::latent
