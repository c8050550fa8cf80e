// Which parts a block of decode over latents works on, one after another, and what comes with each:
// its queries. One warp does this beside those who copy keys and multiply, so that a part begins
// while the last one ends.
#pragma once

#include <cstdint>

#include "models/layers/cuda/bulk_copies.cuh"
#include "models/layers/cuda/decode_splits.cuh"
#include "models/layers/cuda/latent_decode.cuh"

namespace dovetail::gpu::latent {

/// Parts come in rounds of one for each walker. Of each round, the walker that has most to do takes
/// the part with fewest keys, and so on: lengths may be very uneven. All blocks compute the same,
/// from the lengths alone.
class Schedule {
 public:
  __device__ Schedule(const Call& x, Shared& shared)
      : x_(x),
        shared_(shared),
        walker_(static_cast<int>(blockIdx.y + blockIdx.z * gridDim.y)),
        walkers_(static_cast<int>(gridDim.y * gridDim.z)) {}

  /// All parts and their queries, each as soon as there is room.
  __device__ __forceinline__ void run() {
#pragma unroll 1
    for (int given = 0;; ++given) {
      const Part part = next();
      tell(given, part);
      if (part.row < 0) {
        return;
      }
      if (given > 0) {
        shared_.queries_used.wait(given - 1);
      }
      if (lane() == 0) {
        fetch_queries(part);
      }
    }
  }

  /// Rows behind the segments = 0.
  __device__ __forceinline__ void zero_padding_rows() const {
    constexpr int vectors = kLatentValueDim / 8;
    const int first_head = static_cast<int>(blockIdx.x) * kHeads;
    const int heads = min(kHeads, x_.heads - first_head);
    const int first_row = __ldg(x_.segments.query_starts + x_.segments.count);
    for (std::int64_t row = first_row + walker_; row < x_.tokens; row += walkers_) {
      bf16* const to =
          x_.result + row * x_.result_token_stride + first_head * x_.result_head_stride;
      for (int i = lane(); i < heads * vectors; i += kWarpSize) {
        store_vector<8>(to + i / vectors * x_.result_head_stride + i % vectors * 8,
                        Bf16Vector<8>{});
      }
    }
  }

 private:
  static constexpr int kStartTiles = 2;  // what a part costs beside its tiles, in tiles
  static constexpr int kWalkersOfLane = (kMaxWalkers + kWarpSize - 1) / kWarpSize;

  __device__ static int lane() {
    return static_cast<int>(threadIdx.x) % kWarpSize;
  }

  /// Loads that do not wait for one another: nothing else can be done meanwhile.
  __device__ __forceinline__ Part part(int number) const {
    const DeviceSegments& segments = x_.segments;
    Part part = {};
    part.first_head = static_cast<int>(blockIdx.x) * kHeads;
    part.num_heads = min(kHeads, x_.heads - part.first_head);
    part.segment = number % static_cast<int>(segments.count);
    part.split = number / static_cast<int>(segments.count);
    const int first = __ldg(segments.query_starts + part.segment);
    const int last = __ldg(segments.query_starts + part.segment + 1);
    const int length = __ldg(segments.key_lengths + part.segment);
    part.row = last > first ? first : -1;
    const int share = split_keys(length, x_.splits, x_.split_by_length, kTileKeys);
    part.begin = part.split * share;
    part.end = min(length, part.begin + share);
    return part;
  }

  /// The next part that has keys. Of those that have none, joining the splits is told so.
  __device__ __forceinline__ Part next() {
#pragma unroll 1
    while (round_ * walkers_ < x_.num_parts()) {
      const int number = round_ * walkers_ + place_in_round();
      ++round_;
      if (number >= x_.num_parts()) {
        continue;
      }
      const Part part = this->part(number);
      if (part.row >= 0 && part.num_keys() > 0) {
        return part;
      }
      for (int i = lane(); part.row >= 0 && i < part.num_heads; i += kWarpSize) {
        x_.partial_stats[part.place(x_) + i] = {-kInfinity, 0};
      }
    }
    Part none = {};
    none.row = -1;
    return none;
  }

  /// Of this walker's part. The first round is as it comes, so that no time is lost; what it cost
  /// is found out in the second.
  __device__ __forceinline__ int place_in_round() {
    if (round_ == 0 || parts_without_keys_ >= x_.segments.count) {
      return walker_;  // a split has no more keys than the one before it: there are none left
    }
    Balance& balance = shared_.balance;
    if (round_ == 1) {
      compute_costs(0);
      for_walkers([&](int i, int /*of_lane*/) { balance.load[i] = balance.cost[i]; });
    }
    compute_costs(round_ * walkers_);
    if (costs_are_equal()) {  // so it does not matter who takes which
      parts_without_keys_ = balance.cost[0] == 0 ? parts_without_keys_ + walkers_ : 0;
      return walker_;
    }
    parts_without_keys_ = 0;
    int ranks[kWalkersOfLane];
    rank(balance.cost, ranks);
    for_walkers([&](int i, int of_lane) {
      balance.by_cost[ranks[of_lane]] = static_cast<std::uint8_t>(i);
    });
    rank(balance.load, ranks);
    int own = 0;
    for_walkers([&](int i, int of_lane) {
      const int place = balance.by_cost[walkers_ - 1 - ranks[of_lane]];
      balance.load[i] += balance.cost[place];
      own = i == walker_ ? place : own;
    });
    return __shfl_sync(kAllLanes, own, walker_ % kWarpSize);
  }

  /// Of a round that begins with part `first`.
  __device__ __forceinline__ void compute_costs(int first) const {
    __syncwarp();
#pragma unroll 1  // the products' code has to stay in the instruction cache
    for (int i = lane(); i < walkers_; i += kWarpSize) {
      int cost = 0;
      if (first + i < x_.num_parts()) {
        const Part part = this->part(first + i);
        if (part.row >= 0 && part.num_keys() > 0) {
          cost = min(part.num_tiles() + kStartTiles, 0xFFFF);
        }
      }
      shared_.balance.cost[i] = static_cast<std::uint16_t>(cost);
    }
    __syncwarp();
  }

  __device__ __forceinline__ bool costs_are_equal() const {
    bool equal = true;
    for_walkers([&](int i, int /*of_lane*/) {
      equal = equal && shared_.balance.cost[i] == shared_.balance.cost[0];
    });
    return __all_sync(kAllLanes, static_cast<int>(equal)) != 0;
  }

  /// work(i, its number among the lane's) for all walkers, each by one lane.
  template <class Work>
  __device__ __forceinline__ void for_walkers(Work work) const {
#pragma unroll
    for (int of_lane = 0; of_lane < kWalkersOfLane; ++of_lane) {
      if (lane() + of_lane * kWarpSize < walkers_) {
        work(lane() + of_lane * kWarpSize, of_lane);
      }
    }
    __syncwarp();
  }

  /// The places of the lane's walkers' values when all are sorted; of equal ones the first is
  /// first.
  template <class Value>
  __device__ __forceinline__ void rank(const Value (&values)[kMaxWalkers],
                                       int (&ranks)[kWalkersOfLane]) const {
    const auto key = [&](int i) { return values[i] * 256 + i; };
    static_assert(kMaxWalkers <= 256);
    int own[kWalkersOfLane];
#pragma unroll
    for (int of_lane = 0; of_lane < kWalkersOfLane; ++of_lane) {
      own[of_lane] = key(min(lane() + of_lane * kWarpSize, walkers_ - 1));
      ranks[of_lane] = 0;
    }
#pragma unroll 4
    for (int i = 0; i < walkers_; ++i) {
      const int other = key(i);
#pragma unroll
      for (int of_lane = 0; of_lane < kWalkersOfLane; ++of_lane) {
        // 1 where the difference is negative: fewer instructions than a comparison takes.
        ranks[of_lane] += static_cast<int>(static_cast<unsigned>(other - own[of_lane]) >> 31);
      }
    }
    __syncwarp();
  }

  __device__ __forceinline__ void tell(int number, const Part& part) const {
    PartQueue& queue = shared_.parts;
    if (number >= PartQueue::kParts) {
      queue.used[number % PartQueue::kParts].wait(number / PartQueue::kParts - 1);
    }
    if (lane() == 0) {
      queue.parts[number % PartQueue::kParts] = part;
      queue.there[number % PartQueue::kParts].arrive();
    }
  }

  __device__ __forceinline__ void fetch_queries(const Part& part) const {
    SharedBarrier& there = shared_.queries_there;
    there.arrive_expecting(sizeof(shared_.queries));
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
#pragma unroll 1
      for (int slab = 0; slab < kSharedHalfSlabs; ++slab) {
        begin_box_of_plane(shared_.queries[half] + slab * kSlabBytes,
                           x_.latent_queries,
                           half * kHalfDim + slab * kSlabColumns,
                           part.first_head,
                           part.row,
                           there);
      }
    }
  }

  const Call& x_;
  Shared& shared_;
  const int walker_;
  const int walkers_;
  int round_ = 0;
  int parts_without_keys_ = 0;  // before this round, in a row
};

}  // namespace dovetail::gpu::latent
