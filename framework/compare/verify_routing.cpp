// The routing part of a verification: gathers the routing of all ranks into matched rows, layer by
// layer, and judges it.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/routing_diff.hpp"
#include "framework/compare/table.hpp"
#include "framework/compare/verify_context.hpp"

namespace dovetail::detail {
namespace {

/// The datasets of one kind of tokens.
struct RoutingPaths {
  const char* expert_ids;
  const char* natural_ids;  ///< there where the experts were given
  const char* logits;
  const char* scores;  ///< there where the router does not choose by the logits
};

constexpr RoutingPaths kOfSteps = {
    path::kExpertIds, path::kNaturalExpertIds, path::kRouterLogits, path::kRouterScores};
constexpr RoutingPaths kOfContexts = {path::kContextExpertIds,
                                      path::kContextNaturalExpertIds,
                                      path::kContextRouterLogits,
                                      path::kContextRouterScores};

/// One rank's ids of all layers; logits are read layer by layer.
struct RankRouting {
  const RankFile* file = nullptr;
  std::int64_t num_rows = 0;
  std::vector<std::int32_t> expert_ids;   ///< [layers, rows, k]
  std::vector<std::int32_t> natural_ids;  ///< the same
};

/// The routing of one kind of tokens in one run.
class RunRouting {
 public:
  /// Throws InputError where a rank with such tokens lacks a dataset, or has another shape of ids.
  RunRouting(const PolicyFolder& folder,
             const RoutingPaths& paths,
             const hdf5::Shape& shape,
             bool has_scores)
      : paths_(paths), num_layers_(shape.at(0)), top_k_(shape.at(2)), has_scores_(has_scores) {
    for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
      ranks_.push_back(read(folder.rank(rank)));
    }
  }

  bool is_given() const { return is_given_; }

  /// Appends that layer's rows, in the order of `rows`, of which `side` is this run's.
  void append_layer(std::int64_t layer,
                    const std::vector<MatchedRow>& rows,
                    RowPlace MatchedRow::*side,
                    std::int64_t num_experts,
                    LayerRouting& to) const {
    std::vector<std::vector<float>> logits;
    std::vector<std::vector<float>> scores;
    for (const RankRouting& rank : ranks_) {
      logits.push_back(read_floats(rank, paths_.logits, layer, num_experts));
      if (has_scores_) {
        scores.push_back(read_floats(rank, paths_.scores, layer, num_experts));
      }
    }
    for (const MatchedRow& row : rows) {
      const RowPlace& place = row.*side;
      const RankRouting& rank = ranks_[static_cast<std::size_t>(place.rank)];
      const auto first = (layer * rank.num_rows + place.row) * top_k_;
      append(rank.expert_ids, first, top_k_, to.expert_ids);
      append(rank.natural_ids, first, top_k_, to.natural_ids);
      append(logits[static_cast<std::size_t>(place.rank)],
             place.row * num_experts,
             num_experts,
             to.logits);
      if (has_scores_) {
        append(scores[static_cast<std::size_t>(place.rank)],
               place.row * num_experts,
               num_experts,
               to.scores);
      }
    }
  }

 private:
  template <class T>
  static void append(const std::vector<T>& from,
                     std::int64_t first,
                     std::int64_t count,
                     std::vector<T>& to) {
    to.insert(to.end(), from.begin() + first, from.begin() + first + count);
  }

  RankRouting read(const RankFile& file) {
    RankRouting rank{.file = &file};
    if (paths_.expert_ids == kOfContexts.expert_ids && !file.has(paths_.expert_ids)) {
      return rank;  // a rank without contexts
    }
    auto ids = file.read<std::int32_t>(paths_.expert_ids);
    if (ids.shape[0] != num_layers_ || ids.shape[2] != top_k_) {
      throw InputError(file.path().string() + ": " + paths_.expert_ids + " has shape " +
                       hdf5::to_string(ids.shape) + "; the baseline has " +
                       counted(num_layers_, "layer") + " and chooses " + counted(top_k_, "expert"));
    }
    rank.num_rows = ids.shape[1];
    rank.expert_ids = std::move(ids.values);
    if (file.has(paths_.natural_ids)) {
      rank.natural_ids = file.read<std::int32_t>(paths_.natural_ids).values;
      is_given_ = true;
    } else {
      rank.natural_ids = rank.expert_ids;
    }
    return rank;
  }

  std::vector<float> read_floats(const RankRouting& rank,
                                 const char* dataset,
                                 std::int64_t layer,
                                 std::int64_t num_experts) const {
    if (rank.num_rows == 0) {
      return {};
    }
    const hdf5::Shape shape = rank.file->shape(dataset);
    if (shape.at(2) != num_experts) {
      throw InputError(rank.file->path().string() + ": " + dataset + " has shape " +
                       hdf5::to_string(shape) + "; the baseline has " +
                       counted(num_experts, "expert"));
    }
    return rank.file->read_floats(dataset, layer, 1).values;
  }

  RoutingPaths paths_;
  std::int64_t num_layers_;
  std::int64_t top_k_;
  bool has_scores_;
  bool is_given_ = false;
  std::vector<RankRouting> ranks_;
};

/// One kind of tokens in both runs.
struct RoutingPair {
  const std::vector<MatchedRow>& rows;
  RunRouting policy;
  RunRouting baseline;
};

void fail(VerifyContext& context, const std::string& problem) {
  context.report.routing->problem = problem;
  context.add_problem("routing: " + problem);
}

RoutedRows routed_rows(const std::vector<RoutingPair>& pairs,
                       std::int64_t top_k,
                       std::int64_t num_experts,
                       const ExpertGroups& groups) {
  RoutedRows rows;
  rows.top_k = top_k;
  rows.num_experts = num_experts;
  rows.groups = groups;
  for (const RoutingPair& pair : pairs) {
    const bool is_given = pair.policy.is_given() || pair.baseline.is_given();
    for (const MatchedRow& row : pair.rows) {
      rows.request.push_back(row.request);
      rows.position.push_back(row.position);
      rows.is_given.push_back(is_given ? 1 : 0);
    }
  }
  return rows;
}

void judge(VerifyContext& context, const RoutingDiff& diff, std::size_t num_context_rows) {
  RoutingReport& routing = *context.report.routing;
  routing.num_judged = diff.num_judged;
  routing.num_mismatches = diff.num_mismatches;
  routing.num_different = diff.num_different;
  routing.num_reordered = diff.num_reordered;
  routing.max_gap = diff.max_gap;
  routing.max_gap_share = diff.max_gap_share;
  routing.logits_share = diff.logits_share;
  routing.num_context_tokens = static_cast<std::int64_t>(num_context_rows);
  const auto& excluded = context.excluded_from;
  const auto num_excluded = std::count_if(excluded.begin(), excluded.end(), [&](std::int64_t from) {
    return from < context.num_layers;
  });
  routing.excluded_share =
      excluded.empty() ? 0
                       : static_cast<double>(num_excluded) / static_cast<double>(excluded.size());
  const double max_excluded = context.report.rule.max_excluded_share;
  if (!diff.first_mismatch.has_value()) {
    if (routing.excluded_share > max_excluded) {
      fail(context,
           format_percent(routing.excluded_share) +
               " of the tokens are excluded, because routers chose differently; allowed are " +
               format_percent(max_excluded) + ": replay the baseline's routing to compare all");
    }
    return;
  }
  const auto index = static_cast<std::size_t>(diff.first_mismatch->row);
  const bool is_context = index >= context.rows.tokens.size();
  const MatchedRow& row = is_context ? context.rows.contexts[index - context.rows.tokens.size()]
                                     : context.rows.tokens[index];
  fail(context,
       "layer " + std::to_string(diff.first_mismatch->layer) + ", rank " +
           std::to_string(row.policy.rank) + ", " + row.describe() +
           (is_context ? " (context)" : "") + ": " + diff.first_mismatch->what + " (" +
           std::to_string(diff.num_mismatches) + " such among " + std::to_string(diff.num_judged) +
           " token-layers)");
}

/// Who chose the experts of the policy's steps; of older files not known.
std::optional<RoutingSource> source_of(const RankFile& file) {
  return file.has_attribute(attribute::kRouting)
             ? parse<RoutingSource>(file.text(attribute::kRouting))
             : std::nullopt;
}

/// How a run's routers group experts. Throws InputError for a text that says nothing of the kind.
ExpertGroups groups_of(const RankFile& file) {
  if (!file.has_attribute(attribute::kExpertGroups)) {
    return {};
  }
  const std::string text = file.text(attribute::kExpertGroups);
  const auto groups = parse_expert_groups(text);
  if (!groups) {
    throw InputError(file.path().string() + ": expert_groups is '" + printable(text) +
                     "'; allowed: number of groups, number of chosen ones, best or sum_of_two");
  }
  return *groups;
}

}  // namespace

void compare_routing(VerifyContext& context) {
  const RankFile& first = context.baseline.rank(0);
  if (!first.has(path::kExpertIds)) {
    return;
  }
  const bool has_scores = first.has(path::kRouterScores);
  const ExpertGroups groups = groups_of(first);
  RoutingReport& routing = context.report.routing.emplace();
  routing.source = source_of(context.policy.rank(0)).value_or(RoutingSource::natural);
  for (const PolicyFolder* folder : {&context.baseline, &context.policy}) {
    for (std::int64_t rank = 0; rank < folder->world_size(); ++rank) {
      if (!(groups_of(folder->rank(rank)) == groups)) {
        fail(context,
             "experts are grouped in another way in " + folder->rank(rank).path().string());
        return;
      }
      for (const char* dataset : {path::kExpertIds,
                                  path::kRouterLogits,
                                  has_scores ? path::kRouterScores : path::kRouterLogits}) {
        if (!folder->rank(rank).has(dataset)) {
          fail(context,
               std::string(dataset) + " is missing in " + folder->rank(rank).path().string());
          return;
        }
      }
    }
  }
  if (!context.rows.context_problems.empty()) {
    fail(context, "contexts: " + context.rows.context_problems.front());
    return;
  }
  const hdf5::Shape shape = first.shape(path::kExpertIds);
  const std::int64_t num_experts = first.shape(path::kRouterLogits).at(2);
  std::vector<RoutingPair> pairs;
  pairs.push_back({context.rows.tokens,
                   RunRouting(context.policy, kOfSteps, shape, has_scores),
                   RunRouting(context.baseline, kOfSteps, shape, has_scores)});
  if (!context.rows.contexts.empty()) {
    pairs.push_back({context.rows.contexts,
                     RunRouting(context.policy, kOfContexts, shape, has_scores),
                     RunRouting(context.baseline, kOfContexts, shape, has_scores)});
  }
  RoutingComparison comparison(routed_rows(pairs, shape.at(2), num_experts, groups), context.exact);
  for (std::int64_t layer = 0; layer < shape.at(0); ++layer) {
    LayerRouting policy;
    LayerRouting baseline;
    for (const RoutingPair& pair : pairs) {
      pair.policy.append_layer(layer, pair.rows, &MatchedRow::policy, num_experts, policy);
      pair.baseline.append_layer(layer, pair.rows, &MatchedRow::baseline, num_experts, baseline);
    }
    comparison.add_layer(row_bounds(context.activation_dtype,
                                    layer + 1,
                                    context.reduction_length,
                                    context.devices,
                                    context.layer_roundings),
                         policy,
                         baseline);
  }
  const RoutingDiff& diff = comparison.result();
  context.num_layers = std::max(context.num_layers, shape.at(0));
  context.excluded_from.assign(diff.excluded_from.begin(),
                               diff.excluded_from.begin() + std::ssize(context.rows.tokens));
  judge(context, diff, context.rows.contexts.size());
}

}  // namespace dovetail::detail
