// The receiver's side of a routing plan.
#include <algorithm>
#include <string>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/routing_plan.hpp"

namespace dovetail {
namespace {

// Of the choices of a row of metadata that are this rank's: the number, the first and the last
// group.
struct LocalGroups {
  int count = 0;
  int first = 0;
  int last = 0;
};

// Visits the group of each local choice, and returns what they have in common.
template <class Visit>
LocalGroups visit_groups(const RoutingPlan& plan, const std::int32_t* row, const Visit& visit) {
  LocalGroups groups;
  for (int j = 0; j < plan.shape.top_k; ++j) {
    const int local = local_expert(plan.shape, row[j]);
    if (local < 0) {
      continue;
    }
    const int group = plan.cut().group_of(local);
    groups.first = groups.count == 0 ? group : std::min(groups.first, group);
    groups.last = groups.count == 0 ? group : std::max(groups.last, group);
    ++groups.count;
    visit(group);
  }
  return groups;
}

// The first group of any rank in which the row's token has an expert.
int first_group_of_all(const RoutingPlan& plan, const std::int32_t* row) {
  int first = plan.num_groups;
  for (int j = 0; j < plan.shape.top_k; ++j) {
    if (row[j] >= 0) {
      first = std::min(first, plan.cut().group_of(row[j] % plan.shape.experts_per_rank()));
    }
  }
  return first;
}

}  // namespace

void complete_plan(RoutingPlan& plan) {
  const auto width = plan.metadata_width();
  plan.go_back_count.assign(plan.arrived_count.size(), 0);
  plan.arrived_place.clear();
  auto next = begins_of(plan.arrived_count);
  const auto* row = plan.arrived_metadata.data();
  for (int source = 0; source < plan.shape.ep_size; ++source) {
    const auto first_block = plan.block(source, 0);
    const auto end = sum_before(plan.arrived_count, plan.block(source + 1, 0));
    for (auto i = sum_before(plan.arrived_count, first_block); i < end; ++i, row += width) {
      const auto groups = visit_groups(plan, row, [&](int group) {
        plan.go_back_count[plan.block(source, group)] += plan.shape.returns_choices() ? 1 : 0;
      });
      if (groups.count > 0 && !plan.shape.returns_choices()) {
        ++plan.go_back_count[plan.block(source, groups.last)];
      }
      if (plan.num_groups > 1) {
        const int group =
            plan.selection == RowSelection::all ? first_group_of_all(plan, row) : groups.first;
        DOVETAIL_CHECK(group < plan.num_groups, "a row that no expert needs has arrived");
        plan.arrived_place.push_back(static_cast<std::int32_t>(next[plan.block(source, group)]++));
      }
    }
    for (int group = 0; plan.num_groups > 1 && group < plan.num_groups; ++group) {
      const auto block = plan.block(source, group);
      DOVETAIL_CHECK(next[block] == sum_before(plan.arrived_count, block + 1),
                     "ep rank " + std::to_string(source) + " sends other rows in group " +
                         std::to_string(group) + " than its tokens need");
    }
  }
  plan.complete = true;
}

}  // namespace dovetail
