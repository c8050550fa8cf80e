// What is to be known of a policy before its figures are believed, each by a name: tables of many
// points and tools go by these, and the notes of compare_notes.hpp say them in full.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/enum_names.hpp"
#include "framework/compare/compare.hpp"

namespace dovetail {

/// `drift`: step times grow or fall, over the run or within rounds. `control`: the second copy of
/// the baseline differs from it. `recording`, `unexplained`, `timed_vs_profiled`: the term is
/// large. `not_explained`: what is unexplained is larger than the difference from the baseline.
/// `not_quiet`: the baseline's profiled steps were slowed down. `below_ideal`: the p50 is.
/// `other_execution`: graph mode or exchange is not the baseline's, so terms against it hold that
/// difference, too. `one_round`, `other_runs`: what the speed-up is over does not let a difference
/// be claimed (SpeedUpBasis).
enum class Flag {
  drift,
  control,
  recording,
  unexplained,
  timed_vs_profiled,
  not_explained,
  not_quiet,
  below_ideal,
  other_execution,
  one_round,
  other_runs,
};

template <>
struct EnumNames<Flag> {
  static constexpr std::array<std::string_view, 11> kTable = {"drift",
                                                              "control",
                                                              "recording",
                                                              "unexplained",
                                                              "timed_vs_profiled",
                                                              "not_explained",
                                                              "not_quiet",
                                                              "below_ideal",
                                                              "other_execution",
                                                              "one_round",
                                                              "other_runs"};
};

/// In the order of the enumeration. Pure.
std::vector<Flag> flags_of(const PolicyComparison& policy);

/// Their names.
std::vector<std::string> flag_names(const std::vector<Flag>& flags);

bool has_flag(const PolicyComparison& policy, Flag flag);

/// A term as a share of the p50; 0 where no op of the policy was timed.
double share_of_p50(const PolicyComparison& policy, double term);

}  // namespace dovetail
