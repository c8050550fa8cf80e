// An exception as one line for a person, also one that a library threw.
#pragma once

#include <exception>
#include <string>

namespace dovetail {

/// What the process does now, for messages of failures that do not say it themselves: "loading the
/// weights". A literal; empty where every failure has a place of its own. Any thread.
void set_stage(const char* stage);

/// What the exception says, without the stack that LibTorch appends. Where memory ran out, on the
/// host or on a GPU: "out of memory while <stage>: <what was asked for>".
std::string failure_text(const std::exception& error);

}  // namespace dovetail
