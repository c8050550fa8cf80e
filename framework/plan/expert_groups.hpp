// Experts in groups, of which a token may use a few only (DeepSeek-V2, arXiv:2405.04434, and
// DeepSeek-V3, arXiv:2412.19437), and the choice of experts by numbers that say how good each is.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/enum_names.hpp"

namespace dovetail {

/// What a group is chosen by: its best expert's score, or the sum of its two best.
enum class GroupScore { best, sum_of_two };

template <>
struct EnumNames<GroupScore> {
  static constexpr std::array<std::string_view, 2> kTable = {"best", "sum_of_two"};
};

/// Equal groups of neighbouring experts. A token's experts are of its num_chosen best groups.
struct ExpertGroups {
  int num_groups = 1;  ///< divides the number of experts
  int num_chosen = 1;  ///< of num_groups
  GroupScore score = GroupScore::best;

  /// Whether some choices of experts are not allowed.
  bool are_limited() const { return num_chosen < num_groups; }

  friend bool operator==(const ExpertGroups&, const ExpertGroups&) = default;
};

/// "8 4 sum_of_two": number of groups, of chosen ones, score.
std::string to_text(const ExpertGroups& groups);

/// Reads what to_text wrote; nothing for other texts.
std::optional<ExpertGroups> parse_expert_groups(const std::string& text);

/// The score of each group, from those of all experts. Throws ContractError where the groups do not
/// divide the experts, or have one expert and a score of two.
std::vector<float> group_scores(std::span<const float> scores, const ExpertGroups& groups);

/// The chosen groups, best first, ties by lower number. No score is NaN.
std::vector<int> best_groups(std::span<const float> scores, const ExpertGroups& groups);

/// The k best experts of these groups, best first, ties by lower id. No score is NaN. Throws
/// ContractError where the groups have fewer experts.
std::vector<std::int64_t> best_experts(std::span<const float> scores,
                                       const ExpertGroups& groups,
                                       int k);

}  // namespace dovetail
