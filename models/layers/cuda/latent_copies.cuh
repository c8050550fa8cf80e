// How decode over latents brings tiles of keys to shared memory, ahead of those who multiply.
#pragma once

#include <cstdint>

#include "models/layers/cuda/bulk_copies.cuh"
#include "models/layers/cuda/latent_decode.cuh"

namespace dovetail::gpu::latent {

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

/// Copies boxes of tiles, as far as there are keys; of one warp, one lane of which begins copies.
template <bool kForTwins>
class BoxLoader {
 public:
  static constexpr int kSlabsOfWarp = 2;

  __device__ BoxLoader(const Call& x, const Part& part)
      : x_(x), part_(part), rank_(kForTwins ? static_cast<int>(twin_rank()) : 0) {}

  /// kSlabsOfWarp slabs of each half of the values of all tiles, from `first` on.
  __device__ __forceinline__ void copy_values(Shared& shared, int first) {
    const int halves = 2 * part_.num_tiles();
    next_slots_ = box_slot(x_, part_, 0);
    for (int half = 0; half < halves; ++half) {
      const int slot = half % kSlots;
      if (half % 2 == 0) {
        look_up(half / 2);
      }
      if (half >= kSlots) {
        shared.values_used[slot].wait(half / kSlots - 1);
      }
      const int side = summing_warpgroup(half);
      begin<kSlabsOfWarp>(half / 2,
                          shared.values[slot] + first * kSlabBytes,
                          side * kHalfDim + first * kSlabColumns,
                          shared.values_there[slot] + first,
                          /*copying_twin=*/side);
    }
  }

  /// The rest of the keys of all tiles.
  __device__ __forceinline__ void copy_rest(Shared& shared) {
    const int tiles = part_.num_tiles();
    next_slots_ = box_slot(x_, part_, 0);
    for (int tile = 0; tile < tiles; ++tile) {
      look_up(tile);
      if (tile > 0) {
        shared.rest_used.wait(tile - 1);
      }
      begin<1>(tile,
               shared.rest,
               kLatentValueDim,
               &shared.rest_there[tile % 2],
               /*copying_twin=*/tile % 2);
    }
  }

 private:
  /// A tile ahead, so that nothing waits for the block table.
  __device__ __forceinline__ void look_up(int tile) {
    slots_ = next_slots_;
    next_slots_ = box_slot(x_, part_, tile + 1);
  }

  /// Both blocks of a cluster await the bytes that one of them copies for both.
  template <int kSlabs>
  __device__ __forceinline__ void begin(
      int tile, unsigned char* to, int column, SharedBarrier* there, int copying_twin) const {
    const int keys = min(part_.num_keys() - tile * kTileKeys, kTileKeys);
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
  const Part& part_;
  const int rank_;
  int slots_;
  int next_slots_;
};

/// Copies the keys of all tiles; of one warpgroup. Eight lanes take 128 bytes of a key at once.
class RowLoader {
 public:
  __device__ RowLoader(const Call& x, const Part& part) : x_(x), part_(part) {}

  __device__ __forceinline__ void copy(Shared& shared) {
    const int tiles = part_.num_tiles();
    for (int tile = 0; tile < tiles; ++tile) {
      look_up(tile);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int half = 2 * tile + i;
        const int slot = half % kSlots;
        if (half >= kSlots) {
          shared.values_used[slot].wait(half / kSlots - 1);
        }
        begin<kHalfSlabs>(
            shared.values[slot], summing_warpgroup(half) * kHalfDim, shared.values_there[slot]);
      }
      if (tile > 0) {
        shared.rest_used.wait(tile - 1);
      }
      begin<1>(shared.rest, kLatentValueDim, &shared.rest_there[tile % 2]);
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
  const Part& part_;
  int slots_[kRowsOfThread];
};

template <Copies kCopies>
__device__ __forceinline__ void copy_ahead(const Call& x, const Part& part, Shared& shared) {
  if constexpr (kCopies == Copies::rows) {
    RowLoader(x, part).copy(shared);
  } else {
    const int warp =
        __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize, 0);
    BoxLoader<kCopies == Copies::twin_boxes> loader(x, part);
    constexpr int warps = kHalfSlabs / BoxLoader<false>::kSlabsOfWarp;
    if (warp < warps) {
      loader.copy_values(shared, warp * BoxLoader<false>::kSlabsOfWarp);
    } else if (warp == warps) {
      loader.copy_rest(shared);
    }
  }
}

}  // namespace dovetail::gpu::latent
