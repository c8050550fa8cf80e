// What each phase of a step costs a rank: operations, bytes of memory and bytes between ranks, by
// the sizes of the model and of the batch alone. models/README.md has the formulae.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/plan/phase.hpp"
#include "framework/run/checked_run.hpp"

namespace dovetail {

/// Of all layers and ubatches of a step together. Bytes are those of an ideal kernel, which reads
/// each matrix once for a ubatch and each key once for the tokens of a request in a ubatch;
/// activations and norms are not counted.
struct PhaseWork {
  double flops = 0;  ///< multiplications and additions of products of matrices
  double weight_bytes = 0;
  double cache_read_bytes = 0;
  double cache_written_bytes = 0;
  double sent_bytes = 0;      ///< rows to other ranks
  double received_bytes = 0;  ///< rows of other ranks

  double memory_bytes() const { return weight_bytes + cache_read_bytes + cache_written_bytes; }

  PhaseWork& operator+=(const PhaseWork& other);
};

/// By phase.
using WorkByPhase = std::array<PhaseWork, kNumPhases>;

/// A step of a rank as the policy is planned to run it: one that is cut reads weights for each
/// ubatch. Without padding, in `fast`. Each token's experts are as if drawn evenly, so that
/// experts' work, rows and the number of experts that get any are what is expected. Exchanges send
/// the rows that are needed and no more. Pure.
WorkByPhase work_of_step(const CheckedRun& run, std::size_t policy, int rank, std::size_t step);

/// How the tokens of that step are cut on that rank.
std::vector<std::int64_t> tokens_of_step(const CheckedRun& run,
                                         std::size_t policy,
                                         int rank,
                                         std::size_t step);

}  // namespace dovetail
