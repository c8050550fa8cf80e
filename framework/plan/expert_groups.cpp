#include "framework/plan/expert_groups.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <sstream>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/enum_names.hpp"

namespace dovetail {
namespace {

/// The first k of these numbers by descending score, ties by the lower number.
template <class T>
std::vector<T> best_of(std::vector<T> numbers, std::span<const float> scores, int k) {
  DOVETAIL_CHECK(k >= 0 && k <= std::ssize(numbers), "more choices than candidates");
  std::partial_sort(numbers.begin(), numbers.begin() + k, numbers.end(), [&](T a, T b) {
    const float first = scores[static_cast<std::size_t>(a)];
    const float second = scores[static_cast<std::size_t>(b)];
    return first > second || (first == second && a < b);
  });
  numbers.resize(static_cast<std::size_t>(k));
  return numbers;
}

float score_of(std::span<const float> group, GroupScore score) {
  if (score == GroupScore::best) {
    return *std::max_element(group.begin(), group.end());
  }
  float best = -std::numeric_limits<float>::infinity();
  float second = best;
  for (const float each : group) {
    second = std::max(second, std::min(best, each));
    best = std::max(best, each);
  }
  return best + second;
}

}  // namespace

std::string to_text(const ExpertGroups& groups) {
  return std::to_string(groups.num_groups) + " " + std::to_string(groups.num_chosen) + " " +
         std::string(to_string(groups.score));
}

std::optional<ExpertGroups> parse_expert_groups(const std::string& text) {
  std::istringstream words(text);
  ExpertGroups groups;
  std::string score;
  words >> groups.num_groups >> groups.num_chosen >> score;
  const auto parsed = parse<GroupScore>(score);
  groups.score = parsed.value_or(GroupScore::best);
  const bool is_in_range = groups.num_chosen >= 1 && groups.num_chosen <= groups.num_groups;
  return parsed && is_in_range && to_text(groups) == text ? std::optional(groups) : std::nullopt;
}

std::vector<float> group_scores(std::span<const float> scores, const ExpertGroups& groups) {
  const auto count = static_cast<std::size_t>(groups.num_groups);
  DOVETAIL_CHECK(groups.num_groups >= 1 && scores.size() % count == 0,
                 "the groups do not divide the experts");
  const std::size_t size = scores.size() / count;
  DOVETAIL_CHECK(size >= (groups.score == GroupScore::best ? 1U : 2U), "a group is too small");
  std::vector<float> result;
  for (std::size_t group = 0; group < count; ++group) {
    result.push_back(score_of(scores.subspan(group * size, size), groups.score));
  }
  return result;
}

std::vector<int> best_groups(std::span<const float> scores, const ExpertGroups& groups) {
  std::vector<int> numbers(static_cast<std::size_t>(groups.num_groups));
  std::iota(numbers.begin(), numbers.end(), 0);
  if (!groups.are_limited()) {
    return numbers;
  }
  return best_of(std::move(numbers), group_scores(scores, groups), groups.num_chosen);
}

std::vector<std::int64_t> best_experts(std::span<const float> scores,
                                       const ExpertGroups& groups,
                                       int k) {
  const std::int64_t size = std::ssize(scores) / groups.num_groups;
  std::vector<std::int64_t> candidates;
  for (const int group : best_groups(scores, groups)) {
    for (std::int64_t expert = group * size; expert < (group + 1) * size; ++expert) {
      candidates.push_back(expert);
    }
  }
  return best_of(std::move(candidates), scores, k);
}

}  // namespace dovetail
