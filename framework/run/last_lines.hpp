// What the end of a run says: the last lines, which scripts read, and what to do next.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/compare/not_finite.hpp"
#include "framework/compare/verify.hpp"
#include "framework/config/experiment.hpp"

namespace dovetail {

/// What is said of one policy.
struct PolicyOutcome {
  std::string name;
  std::optional<VerifyReport> verification;
  std::optional<IterationsReport> iterations;    ///< of the baseline
  std::optional<NotFinite> not_finite;           ///< of its recorded outputs
  std::optional<std::size_t> measured_in_point;  ///< of a sweep; nothing = in this run
  nlohmann::json summary;                        ///< null = the policy never ran

  bool has_bad_iterations() const { return iterations && !iterations->problems.empty(); }

  bool has_run() const { return !summary.is_null(); }

  /// Whether it was asked to stop before its end, or before it began.
  bool is_short() const;
};

/// The verdict of the last lines: verified, mismatch or not_comparable with the baseline; baseline;
/// not_verified; not_finite where nothing is compared and the outputs hold NaN or Inf; stopped;
/// not_run.
std::string verdict_of(const Experiment& experiment, const PolicyOutcome& outcome);

/// What is wrong or missing, the kinds of steps of a policy that has several, and whether the
/// control says that the run was not quiet; `next`, a line each; then "results FOLDER", and last of
/// all one line a policy, for scripts: "policy dual_batch step_ms 12.345 speed_up 1.05 (1.02
/// to 1.08) verdict verified", the speed-up with "no difference" behind its interval where that
/// holds 1, and left out where there is no interval.
void print_last_lines(std::ostream& out,
                      const Experiment& experiment,
                      const std::filesystem::path& run_folder,
                      const std::vector<PolicyOutcome>& outcomes,
                      const std::vector<std::string>& next);

/// What helps a person next, a line each, and only what holds: "compare: dovetail compare FOLDER".
/// `program` is how dovetail was started.
std::vector<std::string> next_steps(const Experiment& experiment,
                                    const std::filesystem::path& run_folder,
                                    const std::vector<PolicyOutcome>& outcomes,
                                    const std::string& program);

}  // namespace dovetail
