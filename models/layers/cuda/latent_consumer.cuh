// What the warpgroups that multiply do in decode over latents, and how they meet.
#pragma once

#include <cstdint>

#include "models/layers/cuda/latent_decode.cuh"
#include "models/layers/cuda/latent_sums.cuh"
#include "models/layers/cuda/running_shares.cuh"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu::latent {

/// What a warpgroup computes: the shares of every second tile, and half of the sums of all.
class Consumer {
 public:
  __device__ Consumer(const Call& x, const Part& part, Shared& shared, int half)
      : x_(x), part_(part), shared_(shared), half_(half), row_(row_of_thread()) {}

  __device__ __forceinline__ void run() {
    const int tiles = part_.num_tiles();
    if (half_ == 0) {
      begin_scores(0);
      await_products<0>();
      pin(scores_);
      give_shares(0);
      end_tile(0);
    }
    int tile = 1 - half_;
    for (; tile + 1 < tiles; tile += 2) {
      take_shares(tile);
      begin_scores(tile + 1);
      await_products<1>();
      shared_.keys_used[tile % kStages][half_].arrive();
      await_products<0>();
      pin(sums_.values);
      pin(scores_);
      give_shares(tile + 1);
      end_tile(tile + 1);
    }
    if (tile < tiles) {
      take_shares(tile);
      end_tile(tile);
    }
    store();
  }

 private:
  __device__ static int row_of_thread() {
    return static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 +
           static_cast<int>(threadIdx.x) % kWarpSize / 4;
  }

  __device__ __forceinline__ void end_tile(int tile) {
    await_products<0>();
    pin(sums_.values);
    shared_.keys_used[tile % kStages][half_].arrive();
  }

  __device__ __forceinline__ void begin_scores(int tile) {
    const int stage = tile % kStages;
    const unsigned queries = shared_address(shared_.queries);
    const unsigned keys = shared_address(shared_.keys[stage]);
    constexpr int left = kValueSlabs / 2;
    shared_.keys_there[stage][0].wait(tile / kStages);
    publish_to_products();
    pin(scores_);
    begin_products();
    multiply_rows<0, left>(queries, keys);
    shared_.keys_there[stage][1].wait(tile / kStages);
    publish_to_products();
    begin_products();
    multiply_rows<left, kKeySlabs>(queries, keys);
    end_products();
  }

  template <int kFirst, int kLast>
  __device__ __forceinline__ void multiply_rows(unsigned queries, unsigned keys) {
#pragma unroll
    for (int slab = kFirst; slab < kLast; ++slab) {
#pragma unroll
      for (int step = 0; step < kSlabColumns / 16; ++step) {
        const unsigned offset = slab * kSlabBytes + step * 32;
        multiply(scores_,
                 row_major_operand(queries + offset),
                 row_major_operand(keys + offset),
                 slab + step > 0);
      }
    }
  }

  /// Turns scores into shares, gives them to the other warpgroup and begins to add with them.
  __device__ __forceinline__ void give_shares(int tile) {
    float factors[2];
    const int keys = part_.end - part_.begin - tile * kTileKeys;
    if (keys >= kTileKeys) {
      running_.update<false>(scores_, x_.scale_log2, {keys, keys}, factors);
    } else {
      running_.update<true>(scores_, x_.scale_log2, {keys, keys}, factors);
    }
    const int stage = tile % kStages;
    round_shares(shares_, scores_);
    store_shares(shares_, shared_.shares);
    if (threadIdx.x % 4 == 0) {
#pragma unroll
      for (int of_pair = 0; of_pair < 2; ++of_pair) {
        shared_.factors[stage][row_ + 8 * of_pair] = factors[of_pair];
        shared_.largest[stage][row_ + 8 * of_pair] = running_.largest[of_pair];
      }
    }
    publish_to_products();
    shared_.shares_there[stage].arrive();
    sums_.multiply_by(factors[0], factors[1]);
    pin(sums_.values);
    begin_products();
    sums_.begin_adding(shares_, shared_address(shared_.keys[stage]), half_);
  }

  /// Begins to add with the shares of the other warpgroup's tile.
  __device__ __forceinline__ void take_shares(int tile) {
    const int stage = tile % kStages;
    shared_.shares_there[stage].wait(tile / kStages);
    const float factors[2] = {shared_.factors[stage][row_], shared_.factors[stage][row_ + 8]};
    const float largest[2] = {shared_.largest[stage][row_], shared_.largest[stage][row_ + 8]};
    running_.rescale(factors, largest);
    sums_.multiply_by(factors[0], factors[1]);
    pin(sums_.values);
    begin_products();
    sums_.begin_adding(shared_address(shared_.shares), shared_address(shared_.keys[stage]), half_);
  }

  /// The results, or what joining the splits needs.
  __device__ __forceinline__ void store() {
    const bool writes = threadIdx.x % 4 == 0;
    const float own[2] = {running_.all(0), running_.all(1)};
    if (writes) {
      shared_.totals[half_][row_] = own[0];
      shared_.totals[half_][row_ + 8] = own[1];
    }
    asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory");
    const float all[2] = {shared_.totals[0][row_] + shared_.totals[1][row_],
                          shared_.totals[0][row_ + 8] + shared_.totals[1][row_ + 8]};
    sums_.store(x_, part_, half_, 1 / all[0], 1 / all[1]);
    if (x_.splits > 1 && half_ == 0 && writes) {
      const std::int64_t place =
          (std::int64_t{part_.split} * x_.segments.count + part_.segment) * x_.heads +
          part_.first_head;
#pragma unroll
      for (int of_pair = 0; of_pair < 2; ++of_pair) {
        if (row_ + 8 * of_pair < part_.num_heads) {
          x_.partial_stats[place + row_ + 8 * of_pair] = {running_.largest[of_pair], all[of_pair]};
        }
      }
    }
  }

  const Call& x_;
  const Part& part_;
  Shared& shared_;
  const int half_;
  const int row_;
  HalfSums sums_;
  RunningShares running_;
  float scores_[32];
  unsigned shares_[kTileKeys / 16][4];
};

}  // namespace dovetail::gpu::latent
