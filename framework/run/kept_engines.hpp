// Which engines of a run's policies stay alive on GPUs between rounds: those for which there is
// memory. A policy whose engine has gone gets another in its next turn, outside of what is timed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "framework/mpi/ranks.hpp"
#include "framework/step/turn_memory.hpp"

namespace dovetail {

/// The engine of a policy, bytes.
struct EngineState {
  bool has_run = false;
  bool is_alive = false;
  std::int64_t held = 0;        ///< by the rank that holds most
  std::int64_t least_held = 0;  ///< by the one that holds least: what freeing it brings for sure
  std::int64_t passing = 0;  ///< taken beside that by steps, and given back; of the rank with most
};

/// Of a policy that has not run nothing is known: it may take so many times what the largest engine
/// has taken. Where that is not there, all engines go before it begins, so that a run that fits
/// without engines beside each other fits with them.
inline constexpr std::int64_t kUnknownEngine = 4;

/// The engines that have to go behind a turn of `own`, all those that were alive being alive, so
/// that `available` bytes are enough for the next turn of each policy. First its own, which was not
/// there before; then those that hold most. Pure.
std::vector<std::size_t> engines_to_free(std::span<const EngineState> engines,
                                         std::size_t own,
                                         std::int64_t available);

/// Decides behind each turn, on all ranks alike.
class KeptEngines {
 public:
  /// `ranks` outlives it.
  KeptEngines(const Ranks& ranks, std::size_t num_policies)
      : ranks_(ranks), engines_(num_policies) {}

  /// Behind a turn of that policy, whose engine is alive: the policies whose engines are to be
  /// freed now. `memory`: nothing on the CPU, where all stay alive. `cache_bytes`: of the policy's
  /// KV cache, `num_caches`: how many more policies that have not run will make. Collective over
  /// the world.
  std::vector<std::size_t> choose_freed(std::size_t policy,
                                        const std::optional<TurnMemory>& memory,
                                        std::int64_t cache_bytes,
                                        std::int64_t num_caches);

 private:
  const Ranks& ranks_;
  std::vector<EngineState> engines_;
  std::int64_t largest_cache_ = 0;  ///< with what filling it took
};

}  // namespace dovetail
