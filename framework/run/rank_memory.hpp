// The memory of a rank that `dovetail check` counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "framework/plan/schedule.hpp"
#include "framework/run/checked_run.hpp"

namespace dovetail {

/// The most bytes of what experts have returned that a step of this schedule holds at a time.
/// `bytes_up_to`: of the groups 0 to that one of that ubatch. The exchange lets go of a ubatch's
/// with the last group; where experts are not cut, each with its own op. Pure.
std::int64_t most_output_bytes(
    const Schedule& schedule,
    const std::function<std::int64_t(int ubatch, int last_group)>& bytes_up_to);

/// What else than the run as it is memory_of_steps is asked for.
struct MemoryQuestion {
  std::optional<std::size_t> policy = std::nullopt;  ///< index; nothing = each part of all policies
  std::optional<int> expert_parallel =
      std::nullopt;  ///< of this grid, with the same requests a rank
};

/// Parts of the weights of one rank, bytes.
std::vector<MemoryPart> memory_of_weights(const CheckedRun& run, int rank, int expert_parallel);

/// Parts of what steps take of one rank's memory, bytes, each in the policy that needs most; in a
/// run of several rounds, in which policies stay alive beside each other, with the KV caches and
/// outputs of all, and on CPU ranks with the exchange buffers of all. Throws InputError where the
/// requests do not fit into the KV cache.
std::vector<MemoryPart> memory_of_steps(const CheckedRun& run,
                                        int rank,
                                        const MemoryQuestion& question);

/// Both, of the run as it is.
std::vector<MemoryPart> rank_memory(const CheckedRun& run, int rank);

}  // namespace dovetail
