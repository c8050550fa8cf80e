// What the items of a stage list name: phases, and groups of experts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/config/policy_config.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// comm for dispatch and combine.
Lane default_lane(Phase phase);

/// "experts", or "experts g1" of a group.
std::string name_of(Phase phase, int group);

/// An item's text, cut at its first space.
struct NamedPhase {
  std::string name;        ///< without the group
  std::string group_text;  ///< "g1", or empty

  explicit NamedPhase(const std::string& text);

  /// Nothing for a name that is none.
  std::optional<Phase> phase() const;

  /// Nothing for what is none of `num_groups` groups.
  std::optional<int> group(int num_groups) const;
};

/// An op that an item of a stage names.
struct ListedOp {
  std::size_t item = 0;
  Phase phase = Phase::attention;
  int group = kNoGroup;
};

/// The ops of a stage in order. All names are of phases and of groups that are there. A name
/// without a group is all of its groups; experts with a combine right behind them go group by
/// group, so that the rows of a group travel back beside the next group's experts.
std::vector<ListedOp> ops_of(const std::vector<StagePhase>& stage, int num_groups);

}  // namespace dovetail
