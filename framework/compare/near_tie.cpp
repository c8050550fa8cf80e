#include "framework/compare/near_tie.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <iterator>
#include <numeric>
#include <vector>

namespace dovetail::detail {
namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

template <class T>
bool has(const std::vector<T>& all, T one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

/// Numbers of one kind in both runs, and their sizes: how far rounding may move each, in units of
/// bounds.element.
struct Candidates {
  std::vector<double> policy;
  std::vector<double> baseline;
  std::vector<double> size;
};

Candidates of_experts(const RouterRow& policy, const RouterRow& baseline, double element) {
  const auto& logits = baseline.logits;
  const double rms = std::sqrt(std::transform_reduce(logits.begin(),
                                                     logits.end(),
                                                     0.0,
                                                     std::plus<>(),
                                                     [](double value) { return value * value; }) /
                               static_cast<double>(logits.size()));
  Candidates all;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double logit = logits[i];
    double size = std::max(std::abs(logit), rms);
    if (!baseline.scores.empty()) {
      const double radius = element * size;
      // A sigmoid's rounding, its sum with the bias, and the bias's own: 4 at the most.
      const double rounding =
          4 * unit_roundoff(DType::float32) * std::max(1.0, std::abs(double{baseline.scores[i]}));
      size = (rounding + std::max(sigmoid(logit + radius) - sigmoid(logit),
                                  sigmoid(logit) - sigmoid(logit - radius))) /
             element;
    }
    all.policy.push_back(policy.deciding()[i]);
    all.baseline.push_back(baseline.deciding()[i]);
    all.size.push_back(size);
  }
  return all;
}

/// The largest size of the experts that make the group's score in that run.
double size_in(const std::vector<float>& scores, const double* sizes, GroupScore score) {
  const std::size_t count = score == GroupScore::best ? 1 : 2;
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::partial_sort(order.begin(),
                    order.begin() + static_cast<std::ptrdiff_t>(count),
                    order.end(),
                    [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  double largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, sizes[order[i]]);
  }
  return largest * std::sqrt(static_cast<double>(count));
}

Candidates of_groups(const RouterRow& policy,
                     const RouterRow& baseline,
                     const ExpertGroups& groups,
                     const Candidates& experts) {
  Candidates all;
  const auto scores = group_scores(policy.deciding(), groups);
  const auto others = group_scores(baseline.deciding(), groups);
  all.policy.assign(scores.begin(), scores.end());
  all.baseline.assign(others.begin(), others.end());
  const auto count = policy.logits.size() / scores.size();
  for (std::size_t group = 0; group < scores.size(); ++group) {
    double size = 0;
    for (const RouterRow* row : {&policy, &baseline}) {
      const auto members = row->deciding().subspan(group * count, count);
      size = std::max(
          size,
          size_in(
              {members.begin(), members.end()}, experts.size.data() + group * count, groups.score));
    }
    all.size.push_back(size);
  }
  return all;
}

/// Adds the pairs of one kind to a gap.
template <class T>
void add_pairs(const std::vector<T>& own,
               const std::vector<T>& others,
               const Candidates& all,
               const RowBounds& bounds,
               const std::string& what,
               Gap& gap) {
  double difference = 0;
  double size = 0;
  for (const T one : own) {
    for (const T other : others) {
      const auto e = static_cast<std::size_t>(one);
      const auto f = static_cast<std::size_t>(other);
      difference =
          std::max({difference, all.policy[e] - all.policy[f], all.baseline[f] - all.baseline[e]});
      size = std::max({size, all.size[e], all.size[f]});
    }
  }
  const double share = difference / (choice_bound(bounds) * size);
  if (difference > 0 && !(share <= gap.share)) {
    gap = {.difference = difference, .share = share, .what = what};
  }
}

/// What is in `all` and not in `others`.
template <class T>
std::vector<T> only_in(const std::vector<T>& all, const std::vector<T>& others) {
  std::vector<T> result;
  std::copy_if(
      all.begin(), all.end(), std::back_inserter(result), [&](T one) { return !has(others, one); });
  return result;
}

}  // namespace

bool are_consistent(const RouterRow& policy, const RouterRow& baseline) {
  // Roundings of scores around 1, and what sigmoids of devices differ by.
  const double tolerance = 16 * unit_roundoff(DType::float32);
  for (std::size_t i = 0; i < baseline.scores.size(); ++i) {
    const double score = policy.scores[i];
    const double other = baseline.scores[i];
    const double of_logits = sigmoid(policy.logits[i]) - sigmoid(baseline.logits[i]);
    const double size = std::max({1.0, std::abs(score), std::abs(other)});
    if (!(std::abs(score - other - of_logits) <= tolerance * size)) {
      return false;
    }
  }
  return true;
}

Gap gap_between(const RouterChoice& policy,
                const RouterChoice& baseline,
                const ExpertGroups& groups,
                const RowBounds& bounds) {
  const Candidates experts = of_experts(policy.row, baseline.row, bounds.element);
  const auto own_groups = best_groups(policy.row.deciding(), groups);
  const auto other_groups = best_groups(baseline.row.deciding(), groups);
  const auto size = static_cast<std::int32_t>(experts.size.size()) / groups.num_groups;
  const auto in_common_groups = [&](std::vector<std::int32_t> ids) {
    std::erase_if(ids, [&](std::int32_t id) {
      return !has(own_groups, id / size) || !has(other_groups, id / size);
    });
    return ids;
  };
  const std::vector<std::int32_t> own(policy.ids.begin(), policy.ids.end());
  const std::vector<std::int32_t> others(baseline.ids.begin(), baseline.ids.end());
  const std::string name = baseline.row.deciding_name();
  Gap gap = {.difference = 0, .share = 0, .what = name};
  add_pairs(in_common_groups(only_in(own, others)),
            in_common_groups(only_in(others, own)),
            experts,
            bounds,
            name,
            gap);
  if (groups.are_limited()) {
    add_pairs(only_in(own_groups, other_groups),
              only_in(other_groups, own_groups),
              of_groups(policy.row, baseline.row, groups, experts),
              bounds,
              name + " of groups",
              gap);
  }
  return gap;
}

}  // namespace dovetail::detail
