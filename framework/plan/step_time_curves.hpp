// Step times as curves over tokens, and the choice between two of them: what the policy `auto` does
// before each step. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace dovetail {

/// What a step time depends on, beside the setting.
struct StepLoad {
  std::int64_t tokens = 0;      ///< maximum over ranks
  double context_tokens = 0;    ///< mean over the requests of all ranks
  bool one_token_each = false;  ///< every request of every rank computes one token

  friend bool operator==(const StepLoad&, const StepLoad&) = default;
};

struct StepTimeSample {
  StepLoad load;
  double step_ms = 0;
  double error_ms = 0;  ///< half of its 95 % interval; 0 = not known

  friend bool operator==(const StepTimeSample&, const StepTimeSample&) = default;
};

/// Measured step times of the plain step and of the candidate, in any order, and the SMs that the
/// exchange could take on a GPU meanwhile, or kAllSms; 0 = on the CPU.
struct StepTimeCurves {
  std::vector<StepTimeSample> plain;
  std::vector<StepTimeSample> candidate;
  int plain_comm_sms = 0;
  int candidate_comm_sms = 0;

  friend bool operator==(const StepTimeCurves&, const StepTimeCurves&) = default;
};

/// How much slower than the candidate the plain step may be and still be taken, because the
/// difference may be chance. Wide intervals thus cost no more than this: where they say little, the
/// times themselves are the best guess.
inline constexpr double kMostForgone = 0.01;

struct StepTimeEstimate {
  double plain_ms = 0;
  double candidate_ms = 0;
  std::int64_t tokens = 0;  ///< at which both were taken
  double margin_ms = 0;     ///< half of the 95 % interval of their difference

  /// Whether the candidate is faster by more than what chance may be, or than kMostForgone of its
  /// time.
  bool prefers_candidate() const {
    return candidate_ms + std::min(margin_ms, kMostForgone * candidate_ms) < plain_ms;
  }
};

/// Both step times at `load`. Samples of the same kind (one_token_each) count, at the context that
/// is nearest to the load's among those at which both were measured (of two equally near the
/// smaller). Between two samples the time is a line over tokens; several samples at one number of
/// tokens count as their mean. Errors are taken to be independent. Tokens outside of the range in
/// which both were measured are moved to its end. Nothing where no context or no range is common to
/// both.
std::optional<StepTimeEstimate> estimate_step_times(const StepTimeCurves& curves,
                                                    const StepLoad& load);

/// A number that is equal for equal curves: ranks compare it, since they decide by the curves.
std::uint64_t curves_digest(const StepTimeCurves& curves);

}  // namespace dovetail
