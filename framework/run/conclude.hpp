// The last stage of a run: what rank 0 makes of the rank files, and the lines that a person or a
// script reads (last_lines.hpp).
#pragma once

#include <filesystem>

#include "framework/run/policy_loop.hpp"
#include "framework/run/run_context.hpp"

namespace dovetail {

/// Waits for all ranks' files; then rank 0 writes view.h5, trace.json and summary.json for each
/// policy that ran, verifies against the baseline and prints the last lines, and above them, but in
/// a sweep, what to do next. Where a rank was asked to stop, what is missing is named. Collective
/// over the world; returns the exit code, equal on all ranks: kExitStopped where policies or
/// iterations are missing, unless what is there mismatches; kExitMismatch also where the outputs of
/// a baseline are not finite.
int conclude(const RunContext& context,
             const std::filesystem::path& run_folder,
             const PolicyLoopResult& policies,
             const RunOptions& options,
             bool is_sweep);

}  // namespace dovetail
