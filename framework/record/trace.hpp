// Chrome trace of the profiled steps of a policy folder; Perfetto (ui.perfetto.dev) and
// chrome://tracing open it.
#pragma once

#include <filesystem>
#include <string>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// The trace as JSON text: a process a rank; in it a thread for the steps, the compute lane, the
/// comm lane and each ubatch's hand-off waits. Complete events ("X", microseconds from the earliest
/// event, ascending) named "experts l3 u1", with layer, ubatch, phase, op and iteration as
/// arguments; times of all ranks and of both lanes (on a GPU: streams) are on rank 0's clock;
/// otherData names the bound of the error of that for each rank (clock_error_ns). An emulated link
/// is named with every rank and in otherData, a device that is not the CPU with its rank. Ranks
/// without a readable file are left out. Throws InputError as read_profiles.
std::string chrome_trace(const PolicyFolder& folder);

/// Writes chrome_trace of a policy folder to `file`. RunError where it cannot be written.
void write_chrome_trace(const std::filesystem::path& policy_dir, const std::filesystem::path& file);

}  // namespace dovetail
