// What the warpgroups that multiply do in decode over latents, and how they meet.
#pragma once

#include <cstdint>

#include "models/layers/cuda/bulk_copies.cuh"
#include "models/layers/cuda/decode_splits.cuh"
#include "models/layers/cuda/latent_copies.cuh"
#include "models/layers/cuda/latent_decode.cuh"
#include "models/layers/cuda/latent_sums.cuh"
#include "models/layers/cuda/lazy_shares.cuh"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu::latent {

/// A tile's rows behind its `keys` = 0, once the tile is there; of the warpgroup that computes its
/// scores. A box may hold what is no key, or have been left out.
__device__ __noinline__ void zero_keys_behind(Shared& shared, int tile, int keys, int warpgroup) {
  const int vectors = (kTileKeys - keys) * 8;
  const auto zero = [&](unsigned char* slabs, int count) {
    for (int i = static_cast<int>(threadIdx.x) % kWarpgroup; i < count * vectors; i += kWarpgroup) {
      const int place = i / vectors * kSlabBytes + keys * kSlabRowBytes + i % vectors * kChunkBytes;
      *reinterpret_cast<uint4*>(slabs + place) = {0, 0, 0, 0};
    }
  };
  for (int half = 2 * tile; half < 2 * tile + 2; ++half) {
    for (SharedBarrier& there : shared.values_there[half % kSlots]) {
      there.wait(half / kSlots);
    }
    zero(shared.values[half % kSlots], kHalfSlabs);
  }
  shared.rest_there[tile % 2].wait(tile / 2);
  zero(shared.rest, 1);
  publish_to_products();
  if (warpgroup == 0) {
    asm volatile("bar.sync 2, %0;" ::"n"(kWarpgroup) : "memory");
  } else {
    asm volatile("bar.sync 3, %0;" ::"n"(kWarpgroup) : "memory");
  }
}

/// What a warpgroup computes: the shares of every second tile, and half of the sums of all. Behind
/// a tile's scores it adds with the other's shares of the tile before, so that the tensor cores
/// have something to do while it turns its scores into shares.
template <Copies kCopies>
class Consumer {
 public:
  __device__ Consumer(const Call& x, Shared& shared, int warpgroup)
      : x_(x), shared_(shared), warpgroup_(warpgroup), row_(row_of_thread()) {}

  /// All parts of the block, one after another.
  __device__ __forceinline__ void run() {
    for (load_query_slabs(0); has_query_; ++number_) {
      attend();
      shared_.parts.leave(number_);
    }
  }

 private:
  static constexpr int kSlack = 8;  // shares of 2^8 are as exact as those of 1

  __device__ static int row_of_thread() {
    return static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 +
           static_cast<int>(threadIdx.x) % kWarpSize / 4;
  }

  __device__ __forceinline__ void attend() {
    const Part& part = shared_.parts.await(number_);
    const int first = end_;
    // The compiler sees that they are the same in all lanes: products need that.
    keys_ = first * kTileKeys + __shfl_sync(kAllLanes, part.num_keys(), 0);
    end_ = (keys_ + kTileKeys - 1) / kTileKeys;
    running_ = {};
    sums_ = {};
    shared_.queries_there.wait(number_);
    if (warpgroup_ == 0) {
      begin_scores(first);
      await_products<0>();
      pin(scores_);
      free_queries_behind(first);
      give_shares</*kFirst=*/true>(first);
    } else if (first + 1 == end_) {
      free_queries_behind(first);
    }
    int tile = first + 2 - warpgroup_;
    for (; tile < end_; tile += 2) {
      begin_scores(tile);
      take_shares(tile - 1);
      await_products<1>();
      pin(scores_);
      free_queries_behind(tile);
      give_shares</*kFirst=*/false>(tile);
    }
    load_query_slabs(number_ + 1);
    if (tile == end_) {
      take_shares(tile - 1);
      await_products<0>();
      pin(sums_.values);
      free(shared_.values_used[(2 * tile - 1) % kSlots]);
    }
    store();
  }

  /// Of the number-th part, if there is one: the slabs that are held in registers.
  __device__ __forceinline__ void load_query_slabs(int number) {
    const Part& part = shared_.parts.await(number);
    has_query_ = __shfl_sync(kAllLanes, part.row, 0) >= 0;
    if (has_query_) {
      own_queries_.load(x_, part, warpgroup_ * kHalfSlabs + kSharedHalfSlabs);
      other_queries_.load(x_, part, (1 - warpgroup_) * kHalfSlabs + kSharedHalfSlabs);
      rest_queries_.load(x_, part, kValueSlabs);
    }
  }

  /// The next part's queries may come where these scores were the part's last of this warpgroup.
  __device__ __forceinline__ void free_queries_behind(int tile) {
    if (tile + 2 >= end_) {
      __syncwarp();
      if (threadIdx.x % kWarpSize == 0) {
        shared_.queries_used.arrive();
      }
    }
  }

  /// What the copy engine filled may be filled again, by either block.
  __device__ __forceinline__ static void free(SharedBarrier& used) {
    __syncwarp();
    if constexpr (kCopies == Copies::twin_boxes) {
      if (threadIdx.x % kWarpSize < kTwins) {
        used.arrive_at(threadIdx.x % kWarpSize);
      }
    } else if (threadIdx.x % kWarpSize == 0) {
      used.arrive();
    }
  }

  __device__ __forceinline__ static void await_keys(SharedBarrier& there, int phase) {
    there.wait(phase);
    if constexpr (kCopies == Copies::rows) {
      publish_to_products();
    }
  }

  __device__ __forceinline__ void begin_scores(int tile) {
    if (kCopies != Copies::rows && keys_ < (tile + 1) * kTileKeys) {
      zero_keys_behind(shared_, tile, keys_ - tile * kTileKeys, warpgroup_);
    }
    pin(scores_);
    multiply_half<true>(2 * tile, warpgroup_, own_queries_);
    multiply_half<false>(2 * tile + 1, 1 - warpgroup_, other_queries_);
    await_keys(shared_.rest_there[tile % 2], tile / 2);
    begin_products();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      multiply_add(scores_,
                   rest_queries_.values[step],
                   row_major_operand(shared_address(shared_.rest), step * 32));
    }
    end_products();
  }

  template <bool kFirst>
  __device__ __forceinline__ void multiply_half(int half, int side, const QuerySlab& last) {
    const int slot = half % kSlots;
    const unsigned queries = shared_address(shared_.queries[side]);
    const unsigned keys = shared_address(shared_.values[slot]);
#pragma unroll
    for (int slab = 0; slab < kHalfSlabs; ++slab) {
      await_keys(shared_.values_there[slot][slab], half / kSlots);
      begin_products();
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int offset = slab * kSlabBytes + step * 32;
        if (slab < kSharedHalfSlabs) {
          multiply(scores_,
                   row_major_operand(queries, offset),
                   row_major_operand(keys, offset),
                   !kFirst || slab + step > 0);
        } else {
          multiply_add(scores_, last.values[step], row_major_operand(keys, offset));
        }
      }
    }
  }

  __device__ __forceinline__ unsigned values_of(int half) const {
    return shared_address(shared_.values[half % kSlots]);
  }

  /// Turns scores into shares, gives them to the other warpgroup and adds with them. kFirst: of the
  /// tiles of the part.
  template <bool kFirst>
  __device__ __forceinline__ void give_shares(int tile) {
    float factors[2];
    free(shared_.rest_used);  // at once: the next tile's scores wait for it
    const int left = keys_ - tile * kTileKeys;
    if (left >= kTileKeys) {
      running_.template raise<false, kSlack>(scores_, x_.scale_log2, {left, left}, factors);
    } else {
      running_.template raise<true, kSlack>(scores_, x_.scale_log2, {left, left}, factors);
    }
    running_.exponentiate(scores_, x_.scale_log2);
    round_shares(shares_, scores_);
    if constexpr (!kFirst) {
      // Never so. It asks for all shares: they are computed before the wait then, beside the
      // products, where the compiler would move them behind it.
      if (__any_sync(kAllLanes, static_cast<int>(running_.total[0] + running_.total[1] < 0)) != 0) {
        await_products<0>();
      }
      await_products<0>();
      pin(sums_.values);
      free(shared_.values_used[(2 * tile - 1) % kSlots]);
    }
    store_shares(shares_, shared_.shares);
    if (threadIdx.x % 4 == 0) {
      shared_.largest[tile % 2][row_] = running_.largest[0];
      shared_.largest[tile % 2][row_ + 8] = running_.largest[1];
    }
    publish_to_products();
    shared_.shares_there[tile % 2].arrive();
    sums_.multiply_by(factors[0], factors[1]);
    pin(sums_.values);
    begin_products();
    sums_.begin_adding(shares_, values_of(2 * tile));
    await_products<0>();
    pin(sums_.values);
    free(shared_.values_used[2 * tile % kSlots]);
  }

  /// Begins to add with the shares of the other's tile.
  __device__ __forceinline__ void take_shares(int tile) {
    shared_.shares_there[tile % 2].wait(tile / 2);
    float factors[2];
    running_.follow({shared_.largest[tile % 2][row_], shared_.largest[tile % 2][row_ + 8]},
                    factors);
    if (__any_sync(kAllLanes, static_cast<int>(factors[0] != 1 || factors[1] != 1)) != 0) {
      await_products<0>();
      pin(scores_);
      sums_.multiply_by(factors[0], factors[1]);
    }
    pin(sums_.values);
    begin_products();
    sums_.begin_adding(shared_address(shared_.shares), values_of(2 * tile + 1));
  }

  /// The results, or what joining the splits needs.
  __device__ __forceinline__ void store() {
    const Part& part = shared_.parts.await(number_);
    const bool writes = threadIdx.x % 4 == 0;
    float(&totals)[2][kHeads] = shared_.totals[number_ % 2];
    const float own[2] = {running_.all(0), running_.all(1)};
    if (writes) {
      totals[warpgroup_][row_] = own[0];
      totals[warpgroup_][row_ + 8] = own[1];
    }
    // Behind this the other has also done with this part's shares.
    shared_.totals_there.arrive();
    shared_.totals_there.wait(number_);
    const float all[2] = {totals[0][row_] + totals[1][row_],
                          totals[0][row_ + 8] + totals[1][row_ + 8]};
    if (x_.splits == 1) {
      sums_.store(x_, part, warpgroup_, {factor_of(all[0]), factor_of(all[1])});
      return;
    }
    sums_.store_partial(x_, part, warpgroup_);
    if (warpgroup_ == 0 && writes) {
      const std::int64_t place = part.place(x_);
#pragma unroll
      for (int of_pair = 0; of_pair < 2; ++of_pair) {
        if (row_ + 8 * of_pair < part.num_heads) {
          x_.partial_stats[place + row_ + 8 * of_pair] = {running_.largest[of_pair], all[of_pair]};
        }
      }
    }
  }

  const Call& x_;
  Shared& shared_;
  const int warpgroup_;
  const int row_;
  int number_ = 0;  // of the part
  bool has_query_ = false;
  int keys_ = 0;  // of this part and of all tiles before, had they as many as fit
  int end_ = 0;   // of this part's tiles
  HalfSums sums_;
  LazyShares running_;
  float scores_[32];
  unsigned shares_[kTileKeys / 16][4];
  QuerySlab own_queries_;
  QuerySlab other_queries_;
  QuerySlab rest_queries_;
};

}  // namespace dovetail::gpu::latent
