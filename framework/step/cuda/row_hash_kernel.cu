#include "framework/step/cuda/row_hash_kernel.hpp"

#include <algorithm>

#include "framework/base/word_hash.hpp"
#include "framework/cuda/block_sum.cuh"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

constexpr int kThreads = 256;
constexpr int kWarpSize = 32;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kLoadBytes = 16;
/// Loads of one thread for a whole piece.
constexpr int kLoads = static_cast<int>(kHashedPieceBytes / kLoadBytes / kWarpSize);
/// Of one part: twice the multiprocessors of the largest GPUs built for.
constexpr std::int64_t kMaxBlocks = 132 * 2;

/// The words of one piece that this thread takes; `piece` begins at byte `begin` of the row.
__device__ std::uint64_t sum_of_piece(const unsigned char* row,
                                      std::int64_t row_bytes,
                                      std::int64_t begin,
                                      std::uint64_t start,
                                      int lane,
                                      bool aligned) {
  const std::int64_t left = row_bytes - begin;
  const std::int64_t size = left < kHashedPieceBytes ? left : kHashedPieceBytes;
  std::uint64_t sum = 0;
  if (aligned) {
    const auto* const pairs = reinterpret_cast<const ulonglong2*>(row + begin);
    const std::int64_t num_pairs = size / kLoadBytes;
    const std::int64_t first = begin / kLoadBytes;
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      const std::int64_t i = std::int64_t{load} * kWarpSize + lane;
      if (i < num_pairs) {
        const ulonglong2 pair = pairs[i];
        sum += hash_word(start, 2 * (first + i), pair.x);
        sum += hash_word(start, 2 * (first + i) + 1, pair.y);
      }
    }
    return sum;
  }
  const std::int64_t first = begin / kHashedWordBytes;
  for (std::int64_t i = lane; i * kHashedWordBytes < size; i += kWarpSize) {
    sum += hash_word(start, first + i, word_from_bytes(row, row_bytes, first + i));
  }
  return sum;
}

/// Blocks of column y take the pieces of part y; a warp takes piece after piece.
__global__ void __launch_bounds__(kThreads)
    row_hash_kernel(const DeviceRows* parts, unsigned long long* sums) {
  const DeviceRows rows = parts[blockIdx.y];
  const std::int64_t pieces_a_row = (rows.row_bytes + kHashedPieceBytes - 1) / kHashedPieceBytes;
  const std::int64_t all = rows.num_rows * pieces_a_row;
  const std::int64_t first = std::int64_t{blockIdx.x} * kWarps;
  if (first >= all) {
    return;
  }
  const bool aligned = reinterpret_cast<std::uintptr_t>(rows.bytes) % kLoadBytes == 0 &&
                       rows.row_bytes % kLoadBytes == 0;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  std::uint64_t own = 0;
  for (std::int64_t piece = first + warp; piece < all; piece += std::int64_t{gridDim.x} * kWarps) {
    const std::int64_t row = piece / pieces_a_row;
    const std::int64_t place = rows.places == nullptr ? row : rows.places[row];
    own += sum_of_piece(rows.bytes + place * rows.row_bytes,
                        rows.row_bytes,
                        piece % pieces_a_row * kHashedPieceBytes,
                        combine_hash(rows.tag, static_cast<std::uint64_t>(rows.keys[row])),
                        lane,
                        aligned);
  }
  add_of_block<kThreads>(own, sums + rows.group);
}

}  // namespace

void launch_row_hash(const DeviceRows* parts,
                     int num_parts,
                     std::int64_t most_pieces,
                     unsigned long long* sums,
                     cudaStream_t stream) {
  if (num_parts == 0 || most_pieces == 0) {
    return;
  }
  const auto blocks =
      static_cast<unsigned>(std::min((most_pieces + kWarps - 1) / kWarps, kMaxBlocks));
  row_hash_kernel<<<dim3(blocks, static_cast<unsigned>(num_parts)), kThreads, 0, stream>>>(parts,
                                                                                           sums);
  check_cuda(cudaGetLastError(), "launch of the hash of rows");
}

}  // namespace dovetail
