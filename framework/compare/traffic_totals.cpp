#include "framework/compare/traffic_totals.hpp"

#include <algorithm>
#include <string>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// A rank's rows by layer and own expert, and the number of its first expert.
struct RankTokens {
  Array<std::int64_t> table;  ///< [layers, experts]
  std::int64_t first_expert = 0;
};

std::vector<RankTokens> read_rank_tokens(const PolicyFolder& folder) {
  std::vector<RankTokens> ranks;
  std::int64_t num_experts = 0;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    ranks.push_back({file.read<std::int64_t>(path::kTokensPerExpert),
                     file.integer(attribute::kFirstExpert, path::kTraffic)});
    num_experts += ranks.back().table.shape.at(1);
  }
  const std::int64_t num_layers = ranks.front().table.shape.at(0);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto& [table, first] = ranks[rank];
    const std::string where =
        folder.rank(static_cast<std::int64_t>(rank)).path().string() + ": " + path::kTraffic;
    if (table.shape.at(0) != num_layers) {
      throw InputError(where + ": rows of " + counted(table.shape.at(0), "layer") + " against " +
                       std::to_string(num_layers) + " on rank 0");
    }
    // All ranks together have an expert for each number, or more where there are replicas.
    if (first < 0 || first > num_experts - table.shape.at(1)) {
      throw InputError(where + ": " + attribute::kFirstExpert + " " + std::to_string(first) +
                       ", but the ranks have " + counted(num_experts, "expert"));
    }
  }
  return ranks;
}

}  // namespace

TrafficTotals read_traffic(const PolicyFolder& folder) {
  const auto ranks = read_rank_tokens(folder);
  const auto layers = static_cast<std::size_t>(ranks.front().table.shape.at(0));
  TrafficTotals traffic;
  traffic.tokens_per_expert.resize(layers);
  traffic.tokens_per_rank.resize(layers, std::vector<std::int64_t>(ranks.size(), 0));
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto first = static_cast<std::size_t>(ranks[rank].first_expert);
    const auto experts = static_cast<std::size_t>(ranks[rank].table.shape.at(1));
    for (std::size_t layer = 0; layer < layers; ++layer) {
      auto& row = traffic.tokens_per_expert[layer];
      row.resize(std::max(row.size(), first + experts), 0);
      for (std::size_t expert = 0; expert < experts; ++expert) {
        const std::int64_t count =
            std::max<std::int64_t>(0, ranks[rank].table.values[layer * experts + expert]);
        row[first + expert] += count;
        traffic.tokens_per_rank[layer][rank] += count;
      }
    }
  }
  return traffic;
}

}  // namespace dovetail
