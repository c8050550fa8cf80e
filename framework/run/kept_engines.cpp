#include "framework/run/kept_engines.hpp"

#include <algorithm>
#include <array>

#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

/// Of a GPU, left for what is not counted, such as kernels that are loaded at their first use and
/// gaps that the allocator cannot use: 4.4 GiB of an H200.
constexpr std::int64_t kSpareShare = 32;

/// What the next turn of a policy may take, of the one that takes most.
std::int64_t largest_turn(std::span<const EngineState> engines) {
  std::int64_t largest_engine = 0;
  for (const auto& engine : engines) {
    largest_engine = std::max(largest_engine, engine.held + engine.passing);
  }
  std::int64_t most = 0;
  for (const auto& engine : engines) {
    const auto needed = !engine.has_run   ? kUnknownEngine * largest_engine
                        : engine.is_alive ? engine.passing
                                          : engine.held + engine.passing;
    most = std::max(most, needed);
  }
  return most;
}

/// Nothing where none is alive.
std::optional<std::size_t> next_to_free(std::span<const EngineState> engines, std::size_t own) {
  if (engines[own].is_alive) {
    return own;
  }
  std::optional<std::size_t> largest;
  for (std::size_t i = 0; i < engines.size(); ++i) {
    if (engines[i].is_alive && (!largest || engines[i].held > engines[*largest].held)) {
      largest = i;
    }
  }
  return largest;
}

}  // namespace

std::vector<std::size_t> engines_to_free(std::span<const EngineState> engines,
                                         std::size_t own,
                                         std::int64_t available) {
  std::vector<EngineState> left(engines.begin(), engines.end());
  std::vector<std::size_t> freed;
  while (available < largest_turn(left)) {
    const auto next = next_to_free(left, own);
    if (!next) {
      break;
    }
    left[*next].is_alive = false;
    available += left[*next].least_held;
    freed.push_back(*next);
  }
  return freed;
}

std::vector<std::size_t> KeptEngines::choose_freed(std::size_t policy,
                                                   const std::optional<TurnMemory>& memory,
                                                   std::int64_t cache_bytes,
                                                   std::int64_t num_caches) {
  if (!memory) {
    return {};
  }
  std::array<std::int64_t, 7> most = {memory->held,
                                      -memory->held,
                                      memory->passing,
                                      cache_bytes + memory->filling,
                                      num_caches,
                                      memory->total / kSpareShare,
                                      -memory->free};
  all_reduce(ranks_.groups.world, most, Reduction::max, ranks_.wait);
  const auto [held, negative_held, passing, cache, caches, spare, negative_free] = most;
  // A later turn may take less: what was taken once can be taken again.
  auto& own = engines_.at(policy);
  own = {.has_run = true,
         .is_alive = true,
         .held = std::max(own.held, held),
         .least_held = -negative_held,
         .passing = std::max(own.passing, passing)};
  largest_cache_ = std::max(largest_cache_, cache);
  auto freed = engines_to_free(engines_, policy, -negative_free - spare - caches * largest_cache_);
  for (const auto one : freed) {
    engines_[one].is_alive = false;
  }
  return freed;
}

}  // namespace dovetail
