// The last stage of a run: what rank 0 makes of the rank files, and the lines that a person or a
// script reads.
#pragma once

#include <filesystem>

#include "framework/run/run_context.hpp"

namespace dovetail {

/// Waits for all ranks' files; then rank 0 writes view.h5, trace.json and summary.json for each
/// policy that ran, verifies against the baseline and prints the last lines. `stopped`: a rank was
/// asked to stop; what is missing then is named. Collective over the world; returns the exit code,
/// equal on all ranks: kExitStopped where policies or iterations are missing, unless what is there
/// mismatches.
int conclude(const RunContext& context, const std::filesystem::path& run_folder, bool stopped);

}  // namespace dovetail
