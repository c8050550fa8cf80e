#include "framework/compare/routing_diff.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/near_tie.hpp"

namespace dovetail {
namespace {

using Ids = std::span<const std::int32_t>;
using Logits = std::span<const float>;
using detail::Gap;
using detail::gap_between;
using detail::RouterRow;

bool are_equal(Ids a, Ids b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

bool is_dense(Ids ids) {
  return std::all_of(ids.begin(), ids.end(), [](std::int32_t id) { return id == -1; });
}

std::string print(Ids ids) {
  std::string text;
  for (const std::int32_t id : ids) {
    text += (text.empty() ? "" : " ") + std::to_string(id);
  }
  return text;
}

/// Whether these are the best of what decides, in its best groups, descending, ties by lower id.
/// False with NaN.
bool are_best(Ids ids, Logits deciding, const ExpertGroups& groups) {
  if (std::any_of(
          deciding.begin(), deciding.end(), [](float value) { return std::isnan(value); })) {
    return false;
  }
  const auto best = best_experts(deciding, groups, static_cast<int>(ids.size()));
  return std::equal(best.begin(), best.end(), ids.begin(), ids.end());
}

bool are_finite(Logits logits) {
  return std::all_of(
      logits.begin(), logits.end(), [](float value) { return std::isfinite(value); });
}

std::int64_t count_different_bits(Logits a, Logits b) {
  return std::transform_reduce(
      a.begin(), a.end(), b.begin(), std::int64_t{0}, std::plus<>(), [](float one, float other) {
        return std::bit_cast<std::uint32_t>(one) == std::bit_cast<std::uint32_t>(other) ? 0 : 1;
      });
}

double sum_of_squares(Logits logits) {
  return std::transform_reduce(
      logits.begin(), logits.end(), 0.0, std::plus<>(), [](double value) { return value * value; });
}

/// The error of a row of logits in units of its bounds. `usual`: the norm that rows of the layer
/// have; a row may be far smaller by chance, its error is not.
double logits_share(Logits a, Logits b, double usual, const RowBounds& bounds) {
  const double norm = std::max(std::sqrt(sum_of_squares(b)), usual);
  const double size = norm / std::sqrt(static_cast<double>(b.size()));
  double squares = 0;
  double element = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    squares += difference * difference;
    element = std::max(element,
                       std::abs(difference) / std::max(std::abs(static_cast<double>(b[i])), size));
  }
  return squares == 0 ? 0
                      : std::max(std::sqrt(squares) / norm / bounds.row, element / bounds.element);
}

template <class T>
std::span<const T> row_of(const std::vector<T>& values, std::size_t row, std::int64_t width) {
  return std::span(values).subspan(row * static_cast<std::size_t>(width),
                                   static_cast<std::size_t>(width));
}

RouterRow router_row(const LayerRouting& routing, std::size_t row, std::int64_t num_experts) {
  return {.logits = row_of(routing.logits, row, num_experts),
          .scores = routing.scores.empty() ? Logits() : row_of(routing.scores, row, num_experts)};
}

bool is_same_set(Ids a, Ids b) {
  return std::is_permutation(a.begin(), a.end(), b.begin(), b.end());
}

std::string share_text(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

}  // namespace

RoutingComparison::RoutingComparison(RoutedRows rows, bool exact)
    : rows_(std::move(rows)), exact_(exact) {
  DOVETAIL_CHECK_EQ(rows_.position.size(), rows_.request.size());
  DOVETAIL_CHECK_EQ(rows_.is_given.size(), rows_.request.size());
  result_.excluded_from.assign(rows_.request.size(), kNeverExcluded);
}

void RoutingComparison::add_layer(const RowBounds& bounds,
                                  const LayerRouting& policy,
                                  const LayerRouting& baseline) {
  const std::size_t rows = rows_.request.size();
  for (const LayerRouting* side : {&policy, &baseline}) {
    DOVETAIL_CHECK_EQ(side->expert_ids.size(), rows * static_cast<std::size_t>(rows_.top_k));
    DOVETAIL_CHECK_EQ(side->natural_ids.size(), side->expert_ids.size());
    DOVETAIL_CHECK_EQ(side->logits.size(), rows * static_cast<std::size_t>(rows_.num_experts));
    DOVETAIL_CHECK(side->scores.empty() || side->scores.size() == side->logits.size(),
                   "as many scores as logits");
  }
  DOVETAIL_CHECK_EQ(policy.scores.empty(), baseline.scores.empty());
  judge_logits(bounds, policy, baseline);
  std::vector<std::size_t> parted;
  for (std::size_t row = 0; row < rows; ++row) {
    if (result_.excluded_from[row] > layer_ &&
        judge(row, bounds, policy, baseline) == Judgement::different && rows_.is_given[row] == 0) {
      parted.push_back(row);
    }
  }
  exclude(parted);
  ++layer_;
}

RoutingComparison::Judgement RoutingComparison::judge(std::size_t row,
                                                      const RowBounds& bounds,
                                                      const LayerRouting& policy,
                                                      const LayerRouting& baseline) {
  const Ids used = row_of(policy.expert_ids, row, rows_.top_k);
  const Ids other_used = row_of(baseline.expert_ids, row, rows_.top_k);
  if (is_dense(used) && is_dense(other_used)) {
    return Judgement::equal;
  }
  ++result_.num_judged;
  const Ids own = row_of(policy.natural_ids, row, rows_.top_k);
  const Ids other = row_of(baseline.natural_ids, row, rows_.top_k);
  const RouterRow a = router_row(policy, row, rows_.num_experts);
  const RouterRow b = router_row(baseline, row, rows_.num_experts);
  const auto fail = [&](const std::string& what) {
    add_mismatch(row, what);
    return Judgement::mismatch;
  };
  if (rows_.is_given[row] != 0 && !are_equal(used, other_used)) {
    return fail("experts " + print(used) + " were used, those of the baseline are " +
                print(other_used));
  }
  if (rows_.is_given[row] == 0 && (!are_equal(used, own) || !are_equal(other_used, other))) {
    return fail("experts " + print(used) + " were used, the router chose " + print(own) +
                "; of the baseline " + print(other_used) + " and " + print(other));
  }
  if (!are_best(own, a.deciding(), rows_.groups)) {
    return fail("experts " + print(own) + " are not the best by the router's " + a.deciding_name());
  }
  if (!are_best(other, b.deciding(), rows_.groups)) {
    return fail("experts " + print(other) + " of the baseline are not the best by its router's " +
                b.deciding_name());
  }
  if (are_equal(own, other)) {
    return Judgement::equal;
  }
  if (exact_) {
    return fail("the router chose " + print(own) + ", that of the baseline " + print(other));
  }
  if (is_same_set(own, other)) {
    ++result_.num_reordered;
    return Judgement::equal;
  }
  const Gap gap = gap_between({own, a}, {other, b}, rows_.groups, bounds);
  if (!(gap.share <= 1)) {
    return fail("the router chose " + print(own) + ", that of the baseline " + print(other) + ": " +
                gap.what + " " + share_text(gap.difference) + " apart, " + share_text(gap.share) +
                " times what rounding explains");
  }
  ++result_.num_different;
  result_.max_gap = std::max(result_.max_gap, gap.difference);
  result_.max_gap_share = std::max(result_.max_gap_share, gap.share);
  return Judgement::different;
}

void RoutingComparison::judge_logits(const RowBounds& bounds,
                                     const LayerRouting& policy,
                                     const LayerRouting& baseline) {
  std::vector<std::size_t> judged;
  std::int64_t num_different_bits = 0;
  std::optional<std::size_t> first_different;
  for (std::size_t row = 0; row < rows_.request.size(); ++row) {
    if (result_.excluded_from[row] <= layer_ ||
        (is_dense(row_of(policy.expert_ids, row, rows_.top_k)) &&
         is_dense(row_of(baseline.expert_ids, row, rows_.top_k)))) {
      continue;
    }
    const Logits a = row_of(policy.logits, row, rows_.num_experts);
    const Logits b = row_of(baseline.logits, row, rows_.num_experts);
    if (!are_finite(a) || !are_finite(b)) {
      add_mismatch(row, "logits are not finite");
      return;
    }
    judged.push_back(row);
    const RouterRow of_policy = router_row(policy, row, rows_.num_experts);
    const RouterRow of_baseline = router_row(baseline, row, rows_.num_experts);
    if (!detail::are_consistent(of_policy, of_baseline)) {
      add_mismatch(row, "scores do not follow from the logits as those of the baseline do");
      return;
    }
    if (const auto different =
            count_different_bits(a, b) + count_different_bits(of_policy.scores, of_baseline.scores);
        different > 0) {
      num_different_bits += different;
      first_different = first_different.value_or(row);
    }
  }
  if (exact_) {
    if (first_different) {
      add_mismatch(*first_different,
                   counted(num_different_bits, "logit") +
                       (num_different_bits == 1 ? " differs" : " differ") + " in bits");
    }
    return;
  }
  const RowBounds of_logits = logits_bounds(bounds, rows_.num_experts);
  double squares = 0;
  for (const std::size_t row : judged) {
    squares += sum_of_squares(row_of(baseline.logits, row, rows_.num_experts));
  }
  const double usual = judged.empty() ? 0 : std::sqrt(squares / static_cast<double>(judged.size()));
  double worst = 0;
  std::size_t worst_row = 0;
  for (const std::size_t row : judged) {
    const double share = logits_share(row_of(policy.logits, row, rows_.num_experts),
                                      row_of(baseline.logits, row, rows_.num_experts),
                                      usual,
                                      of_logits);
    if (share > worst) {
      worst = share;
      worst_row = row;
    }
  }
  result_.logits_share = std::max(result_.logits_share, worst);
  if (worst > 1) {
    add_mismatch(worst_row, "logits differ by " + share_text(worst) + " times the bound");
  }
}

void RoutingComparison::exclude(const std::vector<std::size_t>& rows) {
  std::map<std::int64_t, std::int64_t> first;  // request -> lowest position that has parted
  for (const std::size_t row : rows) {
    result_.excluded_from[row] = layer_;
    const auto [entry, is_new] = first.try_emplace(rows_.request[row], rows_.position[row]);
    entry->second = std::min(entry->second, rows_.position[row]);
  }
  if (rows.empty()) {
    return;
  }
  for (std::size_t row = 0; row < result_.excluded_from.size(); ++row) {
    const auto entry = first.find(rows_.request[row]);
    if (entry != first.end() && rows_.position[row] > entry->second) {
      result_.excluded_from[row] = std::min(result_.excluded_from[row], layer_ + 1);
    }
  }
}

void RoutingComparison::add_mismatch(std::size_t row, const std::string& what) {
  if (result_.num_mismatches++ == 0) {
    result_.first_mismatch = {layer_, static_cast<std::int64_t>(row), what};
  }
}

}  // namespace dovetail
