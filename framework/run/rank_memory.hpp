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
/// `bytes_up_to`: of the groups 0 to that one of one ubatch. The exchange lets go of a ubatch's
/// with the last group; where experts are not cut, each with its own op. Pure.
std::int64_t most_output_bytes(const Schedule& schedule,
                               const std::function<std::int64_t(int last_group)>& bytes_up_to);

/// What else than the run as it is the memory of a rank is asked for.
struct MemoryQuestion {
  std::optional<std::size_t> policy = std::nullopt;  ///< index; nothing = each part of all policies
  std::optional<int> expert_parallel =
      std::nullopt;  ///< of this grid, with the same requests a rank
};

/// Parts of one rank's memory, bytes, each in the policy that needs most; in a run of several
/// rounds, in which policies stay alive beside each other, with the KV caches and outputs of all.
/// Throws InputError where the requests do not fit into the KV cache.
std::vector<MemoryPart> rank_memory(const CheckedRun& run,
                                    int rank,
                                    const MemoryQuestion& question = {});

}  // namespace dovetail
