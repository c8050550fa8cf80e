#include "framework/comm/exchange/routing_plan.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// Marks per expert and per rank, stamped with the token that set them: no clearing per token.
struct Stamps {
  std::vector<std::int64_t> expert;
  std::vector<std::int64_t> rank;
  // Of the ranks that the token is routed to: the first and the last group with an expert of it.
  std::vector<int> first_group;
  std::vector<int> last_group;
};

// Validates the choices of one token and stamps the ranks that it is routed to. Returns the number
// of experts chosen.
std::int64_t stamp_token(const RoutingPlan& plan,
                         std::span<const std::int64_t> experts,
                         std::int64_t token,
                         Stamps& stamps) {
  const auto& shape = plan.shape;
  std::int64_t chosen = 0;
  for (const auto expert : experts) {
    if (expert == -1) {
      continue;
    }
    DOVETAIL_CHECK(expert >= 0 && expert < shape.num_experts,
                   "token " + std::to_string(token) + " chooses expert " + std::to_string(expert) +
                       "; allowed: -1 (none), 0 to " + std::to_string(shape.num_experts - 1));
    auto& mark = stamps.expert[static_cast<std::size_t>(expert)];
    DOVETAIL_CHECK(mark != token,
                   "token " + std::to_string(token) + " chooses expert " + std::to_string(expert) +
                       " twice; the experts of a token must be distinct");
    mark = token;
    const auto rank = static_cast<std::size_t>(expert / shape.experts_per_rank());
    const int group = plan.cut().group_of(static_cast<int>(expert % shape.experts_per_rank()));
    const bool is_first = stamps.rank[rank] != token;
    stamps.rank[rank] = token;
    stamps.first_group[rank] = is_first ? group : std::min(stamps.first_group[rank], group);
    stamps.last_group[rank] = is_first ? group : std::max(stamps.last_group[rank], group);
    ++chosen;
  }
  return chosen;
}

// Puts the tokens into the order of their rows, and into that of their metadata. `blocks` holds,
// for each part, the block in which the token's row travels to that rank.
std::vector<std::int32_t> place_packed_rows(std::span<const std::int32_t> blocks,
                                            RoutingPlan& plan) {
  const auto groups = static_cast<std::size_t>(plan.num_groups);
  const bool is_for_all = plan.selection == RowSelection::all;
  plan.packed_count.assign(plan.return_count.size(), 0);
  const auto for_each_row = [&](const auto& visit) {
    for (std::int64_t token = 0; token < plan.num_tokens; ++token) {
      const auto begin = static_cast<std::size_t>(plan.part_begin[static_cast<std::size_t>(token)]);
      const auto end =
          static_cast<std::size_t>(plan.part_begin[static_cast<std::size_t>(token) + 1]);
      const auto own = blocks.subspan(begin, end - begin);
      if (is_for_all && !own.empty()) {  // one row for all ranks: in block 0 to G - 1 here
        std::size_t group = groups;
        for (const auto block : own) {
          group = std::min(group, static_cast<std::size_t>(block) % groups);
        }
        visit(static_cast<std::int32_t>(token), group);
      }
      for (const auto block : own.first(is_for_all ? 0 : own.size())) {
        visit(static_cast<std::int32_t>(token), static_cast<std::size_t>(block));
      }
    }
  };
  for_each_row([&](std::int32_t, std::size_t block) { ++plan.packed_count[block]; });
  plan.packed_begin = begins_of(plan.packed_count);
  auto next = plan.packed_begin;
  std::vector<std::int64_t> next_metadata;
  for (std::size_t first = 0; first < next.size(); first += groups) {
    next_metadata.push_back(next[first]);
  }
  const auto num_rows = static_cast<std::size_t>(sum_before(plan.packed_count, next.size()));
  plan.packed_tokens.resize(num_rows);
  std::vector<std::int32_t> metadata_tokens(num_rows);
  for_each_row([&](std::int32_t token, std::size_t block) {
    plan.packed_tokens[static_cast<std::size_t>(next[block]++)] = token;
    metadata_tokens[static_cast<std::size_t>(next_metadata[block / groups]++)] = token;
  });
  for (std::size_t block = groups; is_for_all && block < next.size(); ++block) {
    plan.packed_begin[block] = plan.packed_begin[block - groups];
    plan.packed_count[block] = plan.packed_count[block - groups];
  }
  return metadata_tokens;
}

// parts holds, for now, the block in which each partial sum comes back; turns them into rows by
// block, then token.
void place_parts(RoutingPlan& plan) {
  auto next = begins_of(plan.return_count);
  for (auto& part : plan.parts) {
    part = static_cast<std::int32_t>(next[static_cast<std::size_t>(part)]++);
  }
}

// Makes the parts one for each choice, in ascending k, where they are one for each rank: what is
// sent out is settled by then.
void return_choices(std::span<const std::int64_t> expert_ids,
                    std::span<const float> weights,
                    RoutingPlan& plan) {
  DOVETAIL_CHECK(plan.num_choices <= std::numeric_limits<std::int32_t>::max(),
                 "more than 2^31 - 1 rows to get back on one rank in one ubatch");
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  const int experts = plan.shape.experts_per_rank();
  const auto block_of = [&](std::int64_t expert) {
    return plan.block(static_cast<int>(expert / experts),
                      plan.cut().group_of(static_cast<int>(expert % experts)));
  };
  plan.return_count.assign(plan.return_count.size(), 0);
  plan.parts.clear();
  plan.part_begin.assign(1, 0);
  for (std::size_t first = 0; first < expert_ids.size(); first += k) {
    for (auto choice = first; choice < first + k; ++choice) {
      if (expert_ids[choice] >= 0) {
        const auto block = block_of(expert_ids[choice]);
        ++plan.return_count[block];
        plan.parts.push_back(static_cast<std::int32_t>(block));
        plan.part_weights.push_back(weights[choice]);
      }
    }
    plan.part_begin.push_back(static_cast<std::int64_t>(plan.parts.size()));
  }
}

void pack_metadata(std::span<const std::int32_t> tokens,
                   std::span<const std::int64_t> expert_ids,
                   std::span<const float> weights,
                   RoutingPlan& plan) {
  static_assert(sizeof(float) == sizeof(std::int32_t));
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  plan.packed_metadata.resize(tokens.size() * 2 * k);
  auto* row = plan.packed_metadata.data();
  for (const auto token : tokens) {
    const auto first = static_cast<std::size_t>(token) * k;
    for (std::size_t j = 0; j < k; ++j) {
      row[j] = static_cast<std::int32_t>(expert_ids[first + j]);
    }
    std::memcpy(row + k, weights.data() + first, k * sizeof(float));
    row += 2 * k;
  }
}

}  // namespace

std::int64_t RoutingPlan::num_arrivals() const {
  return sum_before(arrived_count, arrived_count.size());
}

std::int64_t RoutingPlan::num_go_back() const {
  return sum_before(go_back_count, go_back_count.size());
}

void plan_sends(const ExchangeShape& shape,
                RowSelection selection,
                std::span<const std::int64_t> expert_ids,
                std::span<const float> weights,
                int num_groups,
                RoutingPlan& plan) {
  const auto k = static_cast<std::size_t>(shape.top_k);
  DOVETAIL_CHECK(num_groups >= 1 && num_groups <= shape.experts_per_rank(),
                 std::to_string(num_groups) + " groups of " +
                     std::to_string(shape.experts_per_rank()) + " experts of a rank");
  DOVETAIL_CHECK(expert_ids.size() % k == 0, "expert_ids is not [T, k]");
  DOVETAIL_CHECK_EQ(expert_ids.size(), weights.size());
  plan.shape = shape;
  plan.selection = selection;
  plan.num_groups = num_groups;
  plan.num_tokens = static_cast<std::int64_t>(expert_ids.size() / k);
  plan.num_choices = 0;
  plan.complete = false;
  plan.parts.clear();
  plan.part_weights.clear();
  plan.part_begin.assign(1, 0);
  const auto ranks = static_cast<std::size_t>(shape.ep_size);
  plan.return_count.assign(ranks * static_cast<std::size_t>(num_groups), 0);

  Stamps stamps{
      .expert = std::vector<std::int64_t>(static_cast<std::size_t>(shape.num_experts), -1),
      .rank = std::vector<std::int64_t>(ranks, -1),
      .first_group = std::vector<int>(ranks, 0),
      .last_group = std::vector<int>(ranks, 0)};
  std::vector<std::int32_t> blocks_out;
  for (std::int64_t token = 0; token < plan.num_tokens; ++token) {
    const auto experts = expert_ids.subspan(static_cast<std::size_t>(token) * k, k);
    plan.num_choices += stamp_token(plan, experts, token, stamps);
    for (int r = 0; r < shape.ep_size; ++r) {
      const auto rank = static_cast<std::size_t>(r);
      if (stamps.rank[rank] == token) {
        const auto block_back = plan.block(r, stamps.last_group[rank]);
        blocks_out.push_back(static_cast<std::int32_t>(plan.block(r, stamps.first_group[rank])));
        plan.parts.push_back(static_cast<std::int32_t>(block_back));
        ++plan.return_count[block_back];
      }
    }
    plan.part_begin.push_back(static_cast<std::int64_t>(plan.parts.size()));
  }
  DOVETAIL_CHECK(plan.parts.size() <= std::numeric_limits<std::int32_t>::max(),
                 "more than 2^31 - 1 rows to send from one rank in one ubatch");
  pack_metadata(place_packed_rows(blocks_out, plan), expert_ids, weights, plan);
  if (shape.returns_choices()) {
    return_choices(expert_ids, weights, plan);
  }
  place_parts(plan);
}

std::vector<std::int64_t> RoutingPlan::tokens_per_expert() const {
  DOVETAIL_CHECK(complete, "nothing has arrived yet: dispatch comes first");
  std::vector<std::int64_t> counts(static_cast<std::size_t>(shape.experts_per_rank()), 0);
  const auto width = metadata_width();
  const auto* row = arrived_metadata.data();
  for (auto left = num_arrivals(); left > 0; --left, row += width) {
    for (int j = 0; j < shape.top_k; ++j) {
      const int local = local_expert(shape, row[j]);
      if (local >= 0) {
        ++counts[static_cast<std::size_t>(local)];
      }
    }
  }
  return counts;
}

}  // namespace dovetail
