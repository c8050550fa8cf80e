// The kernel behind RowHasher on a GPU.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Rows of one tensor (HashedRows), all in device memory.
struct DeviceRows {
  const unsigned char* bytes = nullptr;
  const std::int64_t* places = nullptr;  ///< [num_rows]; null = row i is the i-th
  const std::int64_t* keys = nullptr;    ///< [num_rows]
  std::int64_t num_rows = 0;             ///< of at least one byte
  std::int64_t row_bytes = 0;
  std::uint64_t tag = 0;
  int group = 0;
};

/// Bytes of a row that a warp hashes at once.
inline constexpr std::int64_t kHashedPieceBytes = 4096;

/// Pieces of all rows.
constexpr std::int64_t num_pieces(const DeviceRows& rows) {
  return rows.num_rows * ((rows.row_bytes + kHashedPieceBytes - 1) / kHashedPieceBytes);
}

/// Adds the hash of the rows of each part to the sum of its group, as on the CPU. `parts` and
/// `sums` in device memory; `most_pieces`: the largest num_pieces of a part. Rows whose address and
/// size are multiples of 16 run at memory speed. Enqueued on `stream`; without parts or pieces
/// nothing is.
void launch_row_hash(const DeviceRows* parts,
                     int num_parts,
                     std::int64_t most_pieces,
                     unsigned long long* sums,
                     cudaStream_t stream);

}  // namespace dovetail
