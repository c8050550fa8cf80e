// The last stage of a run: what rank 0 makes of the rank files, and the lines that a person or a
// script reads.
#pragma once

#include <filesystem>

#include "framework/step/rank_context.hpp"

namespace dovetail {

/// Waits for all ranks' files; then rank 0 writes view.h5, trace.json and summary.json for each
/// policy that ran, verifies against the baseline and prints the last lines. Collective over the
/// world; returns the exit code, equal on all ranks.
int conclude(const RankContext& context, const std::filesystem::path& run_folder);

}  // namespace dovetail
