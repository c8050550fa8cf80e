// Messages for people: one line at a time, prefixed by the rank, to stderr.
#pragma once

#include <string>
#include <string_view>

namespace dovetail {

/// Rank shown in front of every later message of this process; -1 (the default) shows none. Call
/// once, before threads start.
void set_log_rank(int rank);

/// Writes "dovetail[rank 1]: message\n" to stderr in one write. Any thread; never throws.
void log_line(std::string_view message) noexcept;

}  // namespace dovetail
