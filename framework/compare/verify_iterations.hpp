// Judges every iteration of a policy, not only the one whose outputs are recorded: by the hashes of
// what each step has left (/hash), which are equal where the bits are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "framework/base/enum_names.hpp"
#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// What an iteration was run for: to be timed, to be profiled, or to show that nothing reads what
/// the exchange has left (poisoned).
enum class IterationKind { timed, profiled, poisoned };

template <>
struct EnumNames<IterationKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"timed", "profiled", "poisoned"};
};

/// How the steps of a policy's iterations were judged. A step of an iteration counts once, whatever
/// the number of ranks.
///
/// Steps ran alike if they are the same step of the same variant and all schedules from the
/// iteration's first step up to it are the same; whether eagerly or as a graph does not matter.
/// Steps that ran alike must have left equal bits on each rank. So one whose like is recorded, and
/// compared with the baseline, is as good as compared itself. One that ran otherwise (vetoed) must
/// have left the bits of the baseline's iterations.
struct IterationsReport {
  bool has_hashes = false;  ///< false: files of before schema version 4, nothing below is known
  std::int64_t num_variants = 1;
  std::int64_t steps_per_iteration = 1;
  std::array<std::int64_t, 3> num_iterations{};  ///< by IterationKind
  std::int64_t num_steps = 0;                    ///< of all these iterations
  std::int64_t num_as_recorded = 0;  ///< ran like the step that is recorded, and left its bits
  std::int64_t num_as_baseline = 0;  ///< ran otherwise, and left the baseline's bits
  std::int64_t num_different = 0;    ///< left other bits than steps that ran alike
  std::int64_t num_unjudged = 0;     ///< ran otherwise, and nothing says that their bits are right
  /// The median time that a rank took to hash a timed step over that step's median; -1 = not known.
  double hash_share = -1;
  /// A sentence each: what is different by kind, iteration, step, ranks and quantity, what is not
  /// judged, which keys and values changed that must not. Empty = all steps are judged and right.
  std::vector<std::string> problems;
};

struct IterationsOptions {
  const PolicyFolder* baseline = nullptr;  ///< null: the folder is the baseline, or there is none
  bool exact = false;  ///< the recorded steps must have left the baseline's bits, too
};

/// All ranks of both folders are complete. Throws InputError where a file contradicts itself.
IterationsReport judge_iterations(const PolicyFolder& policy,
                                  const IterationsOptions& options = {});

/// "iterations: 20 timed, 3 profiled, 2 poisoned, of 2 variants, 1 step each: 25 of 25 steps as
/// recorded"; names what is not judged. A line.
std::string to_text(const IterationsReport& report);

nlohmann::json to_json(const IterationsReport& report);

}  // namespace dovetail
