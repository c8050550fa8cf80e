// The one report of a run that failed: which rank is late, and where each of the others stands.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "framework/exec/rank_state.hpp"

namespace dovetail {

/// Beside the rank files of the policy that failed.
inline constexpr const char* kFailureReportName = "failure.json";

/// Why a rank is held to be what the others wait for.
enum class LateKind {
  gone,            ///< its process has ended without a word
  no_answer,       ///< stopped or dead, or its host is lost
  computes,        ///< in an op that uses its core: slow, not stuck
  stuck,           ///< in an op that uses no core and waits for nobody
  in_file,         ///< between ops, in a call on a file that does not return
  outside_of_ops,  ///< between ops, such as preparing a step
};

struct LateRank {
  int rank = 0;
  LateKind kind = LateKind::no_answer;
  OpenOp op;  ///< of computes and stuck; of no_answer where the others wait for it, if `has_op`
  bool has_op = false;
};

struct FailureReport {
  bool is_timeout = false;         ///< ranks only say that they waited in vain
  bool is_gone = false;            ///< ranks are not there any more: `late` has them
  std::vector<LateRank> late;      ///< of a time-out; empty: the ranks wait for one another
  std::string headline;            ///< one line
  std::vector<std::string> ranks;  ///< a line each, of those that the headline does not cover
};

/// From what each rank has said of itself, by rank; those that have not answered have answered ==
/// 0. Pure.
FailureReport make_failure_report(std::span<const RankState> states);

/// The report and the states that it is made from, as JSON.
std::string to_json_text(const FailureReport& report, std::span<const RankState> states);

/// For a person: the headline, then the ranks, not more than `max_ranks` of them.
std::string to_text(const FailureReport& report, std::size_t max_ranks);

}  // namespace dovetail
