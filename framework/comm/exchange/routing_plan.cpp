#include "framework/comm/exchange/routing_plan.hpp"

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
};

// Validates the choices of one token and stamps the ranks that it is routed to. Returns the number
// of experts chosen.
std::int64_t stamp_token(const ExchangeShape& shape,
                         std::span<const std::int64_t> experts,
                         std::int64_t token,
                         Stamps& stamps) {
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
    stamps.rank[static_cast<std::size_t>(expert / shape.experts_per_rank())] = token;
    ++chosen;
  }
  return chosen;
}

// parts holds, for now, the destination ranks of each token; turns them into rows by rank, then
// token, and lists what to pack.
void place_parts(RoutingPlan& plan) {
  const auto ranks = static_cast<std::size_t>(plan.shape.ep_size);
  std::vector<std::int64_t> next(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    next[r] = sum_before(plan.return_count, static_cast<int>(r));
  }
  if (plan.selection == RowSelection::needed) {
    plan.packed_begin = next;
    plan.packed_count = plan.return_count;
    plan.packed_tokens.resize(plan.parts.size());
  }
  for (std::int64_t token = 0; token < plan.num_tokens; ++token) {
    const auto begin = plan.part_begin[static_cast<std::size_t>(token)];
    const auto end = plan.part_begin[static_cast<std::size_t>(token) + 1];
    if (plan.selection == RowSelection::all && begin < end) {
      plan.packed_tokens.push_back(static_cast<std::int32_t>(token));
    }
    for (auto i = begin; i < end; ++i) {
      auto& part = plan.parts[static_cast<std::size_t>(i)];
      part = static_cast<std::int32_t>(next[static_cast<std::size_t>(part)]++);
      if (plan.selection == RowSelection::needed) {
        plan.packed_tokens[static_cast<std::size_t>(part)] = static_cast<std::int32_t>(token);
      }
    }
  }
  if (plan.selection == RowSelection::all) {
    plan.packed_begin.assign(ranks, 0);
    plan.packed_count.assign(ranks, static_cast<std::int64_t>(plan.packed_tokens.size()));
  }
}

// Makes the parts one for each choice, in ascending k, where they are one for each rank: what is
// sent out is settled by then.
void return_choices(std::span<const std::int64_t> expert_ids,
                    std::span<const float> weights,
                    RoutingPlan& plan) {
  DOVETAIL_CHECK(plan.num_choices <= std::numeric_limits<std::int32_t>::max(),
                 "more than 2^31 - 1 rows to get back on one rank in one ubatch");
  const auto ranks = static_cast<std::size_t>(plan.shape.ep_size);
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  const auto rank_of = [&](std::int64_t expert) {
    return static_cast<std::size_t>(expert / plan.shape.experts_per_rank());
  };
  plan.return_count.assign(ranks, 0);
  for (const auto expert : expert_ids) {
    if (expert >= 0) {
      ++plan.return_count[rank_of(expert)];
    }
  }
  std::vector<std::int64_t> next(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    next[r] = sum_before(plan.return_count, static_cast<int>(r));
  }
  plan.parts.clear();
  plan.part_begin.assign(1, 0);
  for (std::size_t first = 0; first < expert_ids.size(); first += k) {
    for (auto choice = first; choice < first + k; ++choice) {
      if (expert_ids[choice] >= 0) {
        plan.parts.push_back(static_cast<std::int32_t>(next[rank_of(expert_ids[choice])]++));
        plan.part_weights.push_back(weights[choice]);
      }
    }
    plan.part_begin.push_back(static_cast<std::int64_t>(plan.parts.size()));
  }
}

void pack_metadata(std::span<const std::int64_t> expert_ids,
                   std::span<const float> weights,
                   RoutingPlan& plan) {
  static_assert(sizeof(float) == sizeof(std::int32_t));
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  plan.packed_metadata.resize(plan.packed_tokens.size() * 2 * k);
  auto* row = plan.packed_metadata.data();
  for (const auto token : plan.packed_tokens) {
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
  return sum_before(arrived_count, shape.ep_size);
}

std::int64_t RoutingPlan::num_go_back() const {
  return sum_before(go_back_count, shape.ep_size);
}

void plan_sends(const ExchangeShape& shape,
                RowSelection selection,
                std::span<const std::int64_t> expert_ids,
                std::span<const float> weights,
                RoutingPlan& plan) {
  const auto k = static_cast<std::size_t>(shape.top_k);
  DOVETAIL_CHECK(expert_ids.size() % k == 0, "expert_ids is not [T, k]");
  DOVETAIL_CHECK_EQ(expert_ids.size(), weights.size());
  plan.shape = shape;
  plan.selection = selection;
  plan.num_tokens = static_cast<std::int64_t>(expert_ids.size() / k);
  plan.num_choices = 0;
  plan.complete = false;
  plan.packed_tokens.clear();
  plan.parts.clear();
  plan.part_weights.clear();
  plan.part_begin.assign(1, 0);
  plan.return_count.assign(static_cast<std::size_t>(shape.ep_size), 0);

  Stamps stamps{
      .expert = std::vector<std::int64_t>(static_cast<std::size_t>(shape.num_experts), -1),
      .rank = std::vector<std::int64_t>(static_cast<std::size_t>(shape.ep_size), -1)};
  for (std::int64_t token = 0; token < plan.num_tokens; ++token) {
    const auto experts = expert_ids.subspan(static_cast<std::size_t>(token) * k, k);
    plan.num_choices += stamp_token(shape, experts, token, stamps);
    for (int r = 0; r < shape.ep_size; ++r) {
      if (stamps.rank[static_cast<std::size_t>(r)] == token) {
        plan.parts.push_back(r);
        ++plan.return_count[static_cast<std::size_t>(r)];
      }
    }
    plan.part_begin.push_back(static_cast<std::int64_t>(plan.parts.size()));
  }
  DOVETAIL_CHECK(plan.parts.size() <= std::numeric_limits<std::int32_t>::max(),
                 "more than 2^31 - 1 rows to send from one rank in one ubatch");
  place_parts(plan);
  pack_metadata(expert_ids, weights, plan);
  if (shape.returns_choices()) {
    return_choices(expert_ids, weights, plan);
  }
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

void complete_plan(RoutingPlan& plan) {
  const auto width = plan.metadata_width();
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  const bool one_is_enough = !plan.shape.returns_choices();
  plan.go_back_count.assign(plan.arrived_count.size(), 0);
  const auto* row = plan.arrived_metadata.data();
  for (std::size_t source = 0; source < plan.arrived_count.size(); ++source) {
    for (std::int64_t i = 0; i < plan.arrived_count[source]; ++i, row += width) {
      std::int64_t rows = 0;
      for (std::size_t j = 0; j < k && !(one_is_enough && rows > 0); ++j) {
        rows += local_expert(plan.shape, row[j]) >= 0 ? 1 : 0;
      }
      plan.go_back_count[source] += rows;
    }
  }
  plan.complete = true;
}

}  // namespace dovetail
