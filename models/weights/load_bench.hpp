// `dovetail bench load`: how fast a rank reads its part of a checkpoint, and in how much memory.
#pragma once

#include <cstdint>
#include <string>

namespace dovetail {

struct LoadBenchOptions {
  std::int64_t checkpoint_bytes = std::int64_t{512} << 20;  ///< of the files, about
  bool block_scaled = false;  ///< matrices in 8 bits with factors (block_scaled.hpp), else bfloat16
  int ep_size = 2;
  int ep_rank = 0;
  std::string scratch{};  ///< folder for the temporary checkpoint; empty = the system's
};

/// One load, the files warm in the page cache because they were just written.
struct LoadBench {
  std::string stored;  ///< element type of the files
  std::int64_t checkpoint_bytes = 0;
  int num_files = 0;
  int num_mapped_files = 0;
  double seconds = 0.0;
  double gigabytes_per_second = 0.0;  ///< 1e9 bytes; owned bytes over seconds
  std::int64_t owned_bytes = 0;       ///< of the rank's weights in memory, bfloat16
  std::int64_t owned_file_bytes = 0;  ///< of them in the files, factors included
  std::int64_t bytes_read = 0;
  double read_ratio = 0.0;      ///< bytes_read / owned_file_bytes: 1 = each owned byte once
  std::int64_t peak_bytes = 0;  ///< growth of the process's peak resident memory, file pages too
  double peak_ratio = 0.0;      ///< peak_bytes / owned_bytes

  /// One JSON object with the fields above.
  std::string to_json() const;
};

/// Writes a sharded checkpoint of MoE layers (names of transformers 4), reads what rank `ep_rank`
/// of `ep_size` owns, removes it. Not collective. Throws InputError for options out of range,
/// RunError where the disk or /proc does not allow it.
LoadBench bench_load(const LoadBenchOptions& options);

}  // namespace dovetail
