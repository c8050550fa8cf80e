// The routing part of a verification: gathers /route of all ranks into matched rows and judges it.
#include <algorithm>
#include <cmath>

#include "framework/compare/routing_diff.hpp"
#include "framework/compare/table.hpp"
#include "framework/compare/verify_context.hpp"

namespace dovetail::detail {
namespace {

void fail(VerifyContext& context, const std::string& problem) {
  context.report.routing->problem = problem;
  context.add_problem("routing: " + problem);
}

/// One table of /route of all ranks of one side.
struct Source {
  const PolicyFolder& folder;
  RowPlace MatchedRow::*side;
  std::int64_t layers = 0;
};

/// Gathers a [layers, rows] or (with `width` > 0) [layers, rows, width] table of all ranks into
/// matched row order; false and a problem where a rank lacks it or it has another shape.
template <class T>
bool gather(VerifyContext& context,
            const Source& source,
            const char* dataset,
            std::int64_t width,
            std::vector<T>& values) {
  std::vector<Array<T>> tables;
  for (std::int64_t rank = 0; rank < source.folder.world_size(); ++rank) {
    const RankFile& file = source.folder.rank(rank);
    if (!file.has(dataset)) {
      fail(context, std::string(dataset) + " is missing in " + file.path().string());
      return false;
    }
    hdf5::Shape wanted = {source.layers, file.shape(path::kInputIds).at(0)};
    if (width > 0) {
      wanted.push_back(width);
    }
    tables.push_back(file.read<T>(dataset));
    if (tables.back().shape != wanted) {
      fail(context,
           std::string(dataset) + " has shape " + hdf5::to_string(tables.back().shape) + " in " +
               file.path().string() + " instead of " + hdf5::to_string(wanted));
      return false;
    }
  }
  const auto row_width = static_cast<std::size_t>(std::max<std::int64_t>(width, 1));
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(source.layers); ++layer) {
    for (const MatchedRow& row : context.rows.tokens) {
      const RowPlace& place = row.*source.side;
      const Array<T>& table = tables[static_cast<std::size_t>(place.rank)];
      const std::size_t index =
          layer * static_cast<std::size_t>(table.shape[1]) + static_cast<std::size_t>(place.row);
      const T* first = table.values.data() + index * row_width;
      values.insert(values.end(), first, first + row_width);
    }
  }
  return true;
}

void judge(VerifyContext& context, const RoutingDiff& diff) {
  RoutingReport& routing = *context.report.routing;
  const auto judged = static_cast<double>(diff.num_judged);
  routing.num_judged = diff.num_judged;
  routing.num_mismatches = diff.num_mismatches;
  routing.num_flips = diff.num_flips;
  routing.num_reordered = diff.num_reordered;
  routing.flip_share = diff.num_judged == 0 ? 0 : static_cast<double>(diff.num_flips) / judged;
  routing.excluded_share = diff.excluded_share(context.num_layers);
  if (diff.first_mismatch.has_value()) {
    const MatchedRow& row =
        context.rows.tokens[static_cast<std::size_t>(diff.first_mismatch->token)];
    fail(context,
         "layer " + std::to_string(diff.first_mismatch->layer) + ", rank " +
             std::to_string(row.policy.rank) + ", " + row.describe() + ": " +
             diff.first_mismatch->what + " (" + std::to_string(diff.num_mismatches) + " of " +
             std::to_string(diff.num_judged) + " token-layers differ)");
    return;
  }
  const double allowed = std::ceil(context.report.rule.max_flip_share * judged);
  if (static_cast<double>(diff.num_flips) > allowed) {
    fail(context,
         std::to_string(diff.num_flips) + " near ties fell the other way in " +
             std::to_string(diff.num_judged) + " token-layers; allowed are " +
             format_fixed(allowed, 0));
  }
}

}  // namespace

void compare_routing(VerifyContext& context) {
  const RankFile& first = context.baseline.rank(0);
  if (!first.has(path::kExpertIds)) {
    return;
  }
  context.report.routing.emplace();
  RoutingPair pair;
  pair.num_layers = first.shape(path::kExpertIds).at(0);
  pair.num_tokens = static_cast<std::int64_t>(context.rows.tokens.size());
  pair.top_k = first.shape(path::kExpertIds).at(2);
  const Source baseline{context.baseline, &MatchedRow::baseline, pair.num_layers};
  const Source policy{context.policy, &MatchedRow::policy, pair.num_layers};
  if (!gather(context, baseline, path::kExpertIds, pair.top_k, pair.baseline_experts) ||
      !gather(context, policy, path::kExpertIds, pair.top_k, pair.policy_experts) ||
      !gather(context, baseline, path::kMargin, 0, pair.baseline_margin) ||
      !gather(context, policy, path::kMargin, 0, pair.policy_margin)) {
    return;
  }
  for (const MatchedRow& row : context.rows.tokens) {
    pair.request.push_back(row.request);
    pair.position.push_back(row.position);
  }
  context.num_layers = std::max(context.num_layers, pair.num_layers);
  const RoutingDiff diff = diff_routing(pair, context.report.rule.max_margin, context.exact);
  context.excluded_from = diff.excluded_from;
  judge(context, diff);
}

}  // namespace dovetail::detail
