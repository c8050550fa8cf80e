// The policies that `compare` is asked about, run by run, each with its own baseline.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/compare/policy_result.hpp"

namespace dovetail {

/// Policies that are compared with one of them.
struct ComparedRun {
  std::vector<PolicyResult> policies;  ///< of a run by start time, not empty
  std::size_t baseline = 0;            ///< index
};

/// A policy folder with what its run has found (recorded_verdict.hpp): where that speaks against
/// the outputs, the result is not complete and has no times. Throws InputError as
/// read_policy_result.
PolicyResult read_judged_result(const std::filesystem::path& folder);

/// A run folder is a run of its own, with all policies that its experiment names; its baseline is
/// `verify.baseline`, else the first policy. Policy folders are one run together, whose baseline is
/// the first of them. What is named twice, or is in a run that is named, is there once. `baseline`:
/// the policy of that name in each run; empty: as said. Throws InputError for a folder that does
/// not exist or has no results, and for a baseline that a run lacks.
std::vector<ComparedRun> read_compared_runs(const std::vector<std::filesystem::path>& folders,
                                            const std::string& baseline);

/// The policy folder that `name` ("RUN/POLICY") means: the end of the path of a policy of these
/// runs, as compare's tables print it, or the path of any. Throws InputError where there is none,
/// and one that lists them where there are several; "./RUN/POLICY" is a path only.
std::filesystem::path find_policy_folder(const std::vector<ComparedRun>& runs,
                                         const std::string& name);

/// For each policy folder the name of the folder that it is in, with as many of the folders above
/// as tell different ones apart: "results/a", "results/b"; "old/run", "new/run".
std::vector<std::string> run_labels(const std::vector<std::filesystem::path>& policy_folders);

}  // namespace dovetail
