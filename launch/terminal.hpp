// The terminal that this process writes to.
#pragma once

#include <cstddef>

namespace dovetail {

/// Characters in a line of the terminal that stdout is; 0 where stdout is none.
std::size_t terminal_width();

}  // namespace dovetail
