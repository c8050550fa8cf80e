// A small kernel that stands for an op in tests and benchmarks of the machinery: it proves when it
// ran and what it had seen. Not part of any model.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Device memory that all markers of a step share.
struct MarkerBoard {
  const std::uint64_t* seed = nullptr;         ///< [1]
  const std::int32_t* inputs_begin = nullptr;  ///< [ops + 1] into inputs
  const std::int32_t* inputs = nullptr;        ///< ops whose values an op reads
  std::uint64_t* values = nullptr;             ///< [ops], written by its op
  std::int32_t* ticket = nullptr;              ///< [1]: number of markers that have ended
  std::int32_t* tickets = nullptr;             ///< [ops]: its op's place in the order of ending
  std::int32_t* flag = nullptr;                ///< [1]: raised by a marker, waited for by another
  std::int32_t* missed = nullptr;  ///< [1]: waits for the flag that ran into their deadline
};

/// What a marker does with the flag, between reading its inputs and writing its value.
enum class MarkerFlag : std::int32_t { none = 0, raise = 1, await = 2 };

/// One thread: reads the values of the op's inputs, spins for `spin_ns` so that whoever does not
/// wait for it reads too early, then writes the combined hash of seed, op and inputs in their order
/// (base/hash.hpp) and takes a ticket. With `await` it waits for the flag at most `await_ns`.
/// `time_stamp`: a word that its caller has taken (time_stamp.hpp), written first; null = none.
/// Asynchronous on `stream`.
void launch_marker(int op,
                   const MarkerBoard& board,
                   std::int64_t spin_ns,
                   MarkerFlag flag,
                   std::int64_t await_ns,
                   cudaStream_t stream,
                   std::uint64_t* time_stamp = nullptr);

/// Writes values[op] + i to scratch[i] for i in [0, count), one block; count > 0.
void launch_marker_spread(
    int op, const MarkerBoard& board, std::uint64_t* scratch, int count, cudaStream_t stream);

/// Writes the sum of scratch[0..count) (mod 2^64) to sums[op]; one thread. `time_stamp` as above;
/// `end_stamp`: a word that its caller has taken, written last; null = none.
void launch_marker_sum(int op,
                       const std::uint64_t* scratch,
                       int count,
                       std::uint64_t* sums,
                       cudaStream_t stream,
                       std::uint64_t* time_stamp = nullptr,
                       std::uint64_t* end_stamp = nullptr);

}  // namespace dovetail
