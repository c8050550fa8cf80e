// What a policy's turn has taken of a GPU's memory.
#pragma once

#include <cstdint>

namespace dovetail {

/// Behind the turn, bytes. What LibTorch's allocator had cached is given back by then.
struct TurnMemory {
  std::int64_t total = 0;    ///< of the device
  std::int64_t free = 0;     ///< of the device, with all engines that are alive
  std::int64_t held = 0;     ///< by the policy's engine, in all its turns; graphs and libraries too
  std::int64_t passing = 0;  ///< the most that steps took beside that, and have given back
  std::int64_t filling = 0;  ///< the same of passes that filled contexts
};

}  // namespace dovetail
