// Bytes a second of one direction of an exchange. Three conventions are in use and give different
// figures for one time; each has a name here.
#pragma once

#include <cstdint>

namespace dovetail {

/// Bytes of a rank, of one dispatch or one combine.
struct BenchBytes {
  std::int64_t wire = 0;     ///< of all kinds, to other ranks
  std::int64_t logical = 0;  ///< see logical_bytes
  std::int64_t choices = 0;  ///< of a row for each choice, as Traffic counts
};

/// 1e9 bytes a second.
struct BenchBandwidth {
  double wire_gbs = 0;
  double logical_gbs = 0;
  double bus_gbs = 0;
  double choices_gbs = 0;
};

/// What expert-parallel kernels are quoted by (TensorRT-LLM, DeepEP): a row to each of min(ranks,
/// top k) ranks for each of `tokens` of a rank, which have a choice; own rank included, whatever
/// ranks the choices fall on.
std::int64_t logical_bytes(std::int64_t tokens, int num_ranks, int top_k, std::int64_t row_bytes);

/// Of `us` microseconds; zeros for no time. The bus bandwidth is that of nccl-tests for an
/// all-to-all, algorithm bandwidth x (ranks - 1) / ranks, with the logical bytes as what is sent.
BenchBandwidth bench_bandwidth(const BenchBytes& bytes, int num_ranks, double us);

}  // namespace dovetail
