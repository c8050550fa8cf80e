// Plans of all ranks of a group, made in one process, against what each token needs: which rows
// leave and come back in which group of experts, and where they lie.
#include "framework/comm/exchange/routing_plan.hpp"

#include <algorithm>
#include <deque>
#include <iterator>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

using Choices = std::vector<std::int64_t>;  ///< [T][k], -1 = none

/// The group of a rank's expert, found by its ends.
int group_of(const ExpertCut& cut, std::int64_t local) {
  int group = 0;
  while (local >= cut.begin(group + 1)) {
    ++group;
  }
  return group;
}

struct Case {
  ExchangeShape shape;
  RowSelection selection;
  int num_groups;
  std::vector<Choices> choices;  ///< of each rank

  ExpertCut cut() const { return {shape.experts_per_rank(), num_groups}; }

  std::int64_t num_tokens(int rank) const {
    return std::ssize(choices[static_cast<std::size_t>(rank)]) / shape.top_k;
  }

  /// (rank, group) of each choice, in ascending k.
  std::vector<std::pair<int, int>> places(int rank, std::int64_t token) const {
    std::vector<std::pair<int, int>> found;
    for (std::int64_t j = 0; j < shape.top_k; ++j) {
      const auto expert = choices[static_cast<std::size_t>(rank)]
                                 [static_cast<std::size_t>(token * shape.top_k + j)];
      if (expert >= 0) {
        found.emplace_back(static_cast<int>(expert / shape.experts_per_rank()),
                           group_of(cut(), expert % shape.experts_per_rank()));
      }
    }
    return found;
  }

  /// The groups of the token's experts on `owner`; of those on all ranks for -1.
  std::set<int> groups(int rank, std::int64_t token, int owner) const {
    std::set<int> found;
    for (const auto& [place, group] : places(rank, token)) {
      if (owner < 0 || place == owner) {
        found.insert(group);
      }
    }
    return found;
  }

  /// Tokens of `rank` whose rows leave for `target` with `group`, in order.
  std::vector<std::int32_t> rows_out(int rank, int target, int group) const {
    std::vector<std::int32_t> tokens;
    for (std::int64_t token = 0; token < num_tokens(rank); ++token) {
      const auto needed = groups(rank, token, selection == RowSelection::all ? -1 : target);
      if (!needed.empty() && *needed.begin() == group) {
        tokens.push_back(static_cast<std::int32_t>(token));
      }
    }
    return tokens;
  }

  /// What comes back to `rank` from `owner` with `group`: a token and a choice, or all choices
  /// (-1).
  std::vector<std::pair<std::int64_t, int>> rows_back(int rank, int owner, int group) const {
    std::vector<std::pair<std::int64_t, int>> rows;
    for (std::int64_t token = 0; token < num_tokens(rank); ++token) {
      const auto all = places(rank, token);
      const auto there = groups(rank, token, owner);
      if (!shape.returns_choices()) {
        if (!there.empty() && *there.rbegin() == group) {
          rows.emplace_back(token, -1);
        }
        continue;
      }
      for (int i = 0; i < std::ssize(all); ++i) {
        if (all[static_cast<std::size_t>(i)] == std::pair(owner, group)) {
          rows.emplace_back(token, i);
        }
      }
    }
    return rows;
  }
};

Case make_case(std::mt19937_64& random, int ranks, int num_groups, RowSelection selection) {
  Case made = {.shape = {.ep_size = ranks,
                         .num_experts = 7 * ranks,
                         .top_k = std::min(4, 7 * ranks),
                         .hidden = 2,
                         .sum_order = random() % 2 == 0 ? SumOrder::by_rank : SumOrder::by_choice},
               .selection = selection,
               .num_groups = num_groups,
               .choices = {}};
  std::vector<std::int64_t> experts(static_cast<std::size_t>(made.shape.num_experts));
  std::iota(experts.begin(), experts.end(), 0);
  for (int rank = 0; rank < ranks; ++rank) {
    Choices& own = made.choices.emplace_back();
    for (std::uint64_t token = random() % 30; token > 0; --token) {
      std::shuffle(experts.begin(), experts.end(), random);
      for (int j = 0; j < made.shape.top_k; ++j) {
        own.push_back(random() % 5 == 0 ? -1 : experts[static_cast<std::size_t>(j)]);
      }
    }
  }
  return made;
}

/// Of all ranks; what arrives is what the others pack.
std::deque<RoutingPlan> make_plans(const Case& made) {
  const int ranks = made.shape.ep_size;
  std::deque<RoutingPlan> plans(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    auto shape = made.shape;
    shape.ep_rank = rank;
    const auto& choices = made.choices[static_cast<std::size_t>(rank)];
    plan_sends(shape,
               made.selection,
               choices,
               std::vector<float>(choices.size(), 0.5F),
               made.num_groups,
               plans[static_cast<std::size_t>(rank)]);
  }
  for (int rank = 0; rank < ranks; ++rank) {
    auto& plan = plans[static_cast<std::size_t>(rank)];
    plan.arrived_count.clear();
    plan.arrived_metadata.clear();
    for (const auto& source : plans) {
      const auto first =
          source.packed_metadata.begin() + source.packed_begin[source.block(rank, 0)] *
                                               static_cast<std::int64_t>(source.metadata_width());
      std::int64_t rows = 0;
      for (int group = 0; group < made.num_groups; ++group) {
        plan.arrived_count.push_back(source.packed_count[source.block(rank, group)]);
        rows += plan.arrived_count.back();
      }
      plan.arrived_metadata.insert(
          plan.arrived_metadata.end(),
          first,
          first + rows * static_cast<std::int64_t>(source.metadata_width()));
    }
  }
  return plans;
}

void expect_sends(const Case& made, const RoutingPlan& plan, int rank) {
  std::map<std::pair<std::int64_t, int>, std::int32_t> lies_at;  // of what comes back
  std::int32_t next = 0;
  for (int peer = 0; peer < made.shape.ep_size; ++peer) {
    for (int group = 0; group < made.num_groups; ++group) {
      const auto block = plan.block(peer, group);
      const auto first = plan.packed_tokens.begin() + plan.packed_begin[block];
      EXPECT_EQ(std::vector<std::int32_t>(first, first + plan.packed_count[block]),
                made.rows_out(rank, peer, group));
      const auto back = made.rows_back(rank, peer, group);
      EXPECT_EQ(plan.return_count[block], std::ssize(back));
      for (const auto& [token, choice] : back) {
        // Parts of a token: by rank, or by choice.
        lies_at[{token, choice < 0 ? peer : choice}] = next++;
      }
    }
  }
  for (std::int64_t token = 0; token < made.num_tokens(rank); ++token) {
    std::vector<std::int32_t> wanted;
    for (auto found = lies_at.lower_bound({token, 0});
         found != lies_at.end() && found->first.first == token;
         ++found) {
      wanted.push_back(found->second);
    }
    const auto at = static_cast<std::size_t>(token);
    EXPECT_EQ(std::vector<std::int32_t>(plan.parts.begin() + plan.part_begin[at],
                                        plan.parts.begin() + plan.part_begin[at + 1]),
              wanted)
        << "token " << token;
  }
}

void expect_arrivals(const Case& made, const RoutingPlan& plan, int rank) {
  std::vector<std::int32_t> places;
  std::int32_t before = 0;
  for (int source = 0; source < made.shape.ep_size; ++source) {
    std::vector<std::pair<std::int32_t, std::int32_t>> by_token;
    for (int group = 0; group < made.num_groups; ++group) {
      for (const auto token : made.rows_out(source, rank, group)) {
        by_token.emplace_back(token, before++);
      }
      EXPECT_EQ(plan.go_back_count[plan.block(source, group)],
                std::ssize(made.rows_back(source, rank, group)));
    }
    std::sort(by_token.begin(), by_token.end());
    for (const auto& [token, place] : by_token) {
      places.push_back(place);
    }
  }
  if (made.num_groups > 1) {
    EXPECT_EQ(plan.arrived_place, places);
  } else {
    EXPECT_TRUE(plan.arrived_place.empty());
  }
}

TEST(RoutingPlan, RowsLeaveWithTheirFirstGroupAndComeBackWithTheirLast) {
  const auto seed = std::random_device{}();
  std::mt19937_64 random(seed);
  for (const auto selection : {RowSelection::needed, RowSelection::all}) {
    for (const int ranks : {1, 2, 3}) {
      for (const int num_groups : {1, 2, 3, 7}) {
        for (int i = 0; i < 8; ++i) {
          SCOPED_TRACE(std::to_string(ranks) + " ranks, " + std::to_string(num_groups) +
                       " groups, seed " + std::to_string(seed));
          const auto made = make_case(random, ranks, num_groups, selection);
          auto plans = make_plans(made);
          for (int rank = 0; rank < ranks; ++rank) {
            auto& plan = plans[static_cast<std::size_t>(rank)];
            expect_sends(made, plan, rank);
            complete_plan(plan);
            expect_arrivals(made, plan, rank);
          }
        }
      }
    }
  }
}

/// As above, of worlds in which most ranks exchange nothing; expectations of three ranks take long
/// enough.
TEST(RoutingPlan, HoldsForHundredsOfRanks) {
  const auto seed = std::random_device{}();
  std::mt19937_64 random(seed);
  for (const int ranks : {129, 256, 320}) {
    for (const int num_groups : {1, 3}) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks, " + std::to_string(num_groups) +
                   " groups, seed " + std::to_string(seed));
      const auto made = make_case(random, ranks, num_groups, RowSelection::needed);
      auto plans = make_plans(made);
      for (const int rank : {0, ranks / 2, ranks - 1}) {
        auto& plan = plans[static_cast<std::size_t>(rank)];
        expect_sends(made, plan, rank);
        complete_plan(plan);
        expect_arrivals(made, plan, rank);
      }
    }
  }
}

/// Otherwise rows of one group would be taken for those of another.
TEST(RoutingPlan, RowsOfOtherGroupsThanTheMetadataSaysAreRefused) {
  Case made = {.shape = {.ep_size = 1, .num_experts = 4, .top_k = 2, .hidden = 2},
               .selection = RowSelection::needed,
               .num_groups = 2,
               .choices = {{0, 1, 2, 3, 0, 3}}};
  const auto complete = [&](const std::vector<std::int64_t>& counts) {
    auto plans = make_plans(made);
    auto& plan = plans.front();
    EXPECT_EQ(plan.arrived_count, (std::vector<std::int64_t>{2, 1}));
    plan.arrived_count = counts;
    try {
      complete_plan(plan);
    } catch (const ContractError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("ep rank 0 sends other rows in group 0 than its tokens need"),
                std::string::npos)
          << text;
      return false;
    }
    return true;
  };
  EXPECT_TRUE(complete({2, 1}));
  EXPECT_FALSE(complete({1, 2}));
  EXPECT_FALSE(complete({3, 0}));
}

TEST(ExpertCut, GroupsAreNeighboursAndNoneIsEmpty) {
  for (int experts = 1; experts <= 40; ++experts) {
    for (int num_groups = 1; num_groups <= std::min(experts, kMaxGroups); ++num_groups) {
      const ExpertCut cut = {experts, num_groups};
      EXPECT_EQ(cut.begin(0), 0);
      EXPECT_EQ(cut.begin(num_groups), experts);
      for (int group = 0; group < num_groups; ++group) {
        const int size = cut.begin(group + 1) - cut.begin(group);
        EXPECT_TRUE(size == experts / num_groups ||
                    size == (experts + num_groups - 1) / num_groups);
      }
      for (int local = 0; local < experts; ++local) {
        EXPECT_EQ(cut.group_of(local), group_of(cut, local));
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
