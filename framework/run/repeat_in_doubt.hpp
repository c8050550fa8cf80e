// A measurement that is made again where it is in doubt.
#pragma once

#include <functional>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// How often at most.
inline constexpr int kMostRepeats = 3;

/// Calls `run`, which says whether what it has measured is in doubt on this rank, and again while
/// it is on any. The last one counts. Collective over `world`; throws what `run` does, or as
/// wait_all does.
void repeat_in_doubt(const MpiComm& world,
                     const WaitPolicy& wait,
                     const std::function<bool()>& run);

}  // namespace dovetail
