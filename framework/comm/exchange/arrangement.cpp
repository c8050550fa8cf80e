#include "framework/comm/exchange/arrangement.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// Calls visit(slot, arrival, local expert, weight) in order of arrival, then k, for each choice of
// an expert of this rank. `slot` is the row that goes back with it.
template <class Visit>
void for_each_local_choice(const RoutingPlan& plan, Visit visit) {
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  const bool returns_choices = plan.shape.returns_choices();
  auto next_slot = begins_of(plan.go_back_count);
  std::int64_t arrival = 0;
  const auto* row = plan.arrived_metadata.data();
  for (int source = 0; source < plan.shape.ep_size; ++source) {
    const auto end = sum_before(plan.arrived_count, plan.block(source + 1, 0));
    for (; arrival < end; ++arrival, row += plan.metadata_width()) {
      int last_group = -1;
      for (std::size_t j = 0; j < k; ++j) {
        const int local = local_expert(plan.shape, row[j]);
        last_group = local < 0 ? last_group : std::max(last_group, plan.cut().group_of(local));
      }
      if (last_group < 0) {
        continue;
      }
      auto& of_arrival = next_slot[plan.block(source, last_group)];
      for (std::size_t j = 0; j < k; ++j) {
        const int local = local_expert(plan.shape, row[j]);
        if (local < 0) {
          continue;
        }
        float weight = 0;
        std::memcpy(&weight, row + k + j, sizeof weight);
        auto& slot = returns_choices ? next_slot[plan.block(source, plan.cut().group_of(local))]
                                     : of_arrival;
        visit(static_cast<std::size_t>(slot),
              static_cast<std::size_t>(arrival),
              static_cast<std::size_t>(local),
              weight);
        slot += returns_choices ? 1 : 0;
      }
      of_arrival += returns_choices ? 0 : 1;
    }
  }
}

}  // namespace

void arrange_choices(const RoutingPlan& plan, Arrangement& out) {
  std::int64_t num_rows = 0;
  std::vector<std::int64_t> next_row;
  out.offsets.clear();
  for (const auto rows : plan.tokens_per_expert()) {
    next_row.push_back(num_rows);
    num_rows += rows;
    DOVETAIL_CHECK(num_rows <= std::numeric_limits<std::int32_t>::max(),
                   "more than 2^31 - 1 expert rows on one rank in one ubatch");
    out.offsets.push_back(static_cast<std::int32_t>(num_rows));
  }

  const auto num_slots = static_cast<std::size_t>(plan.num_go_back());
  out.slot_begin.assign(num_slots + 1, 0);
  for_each_local_choice(
      plan, [&](std::size_t slot, std::size_t, std::size_t, float) { ++out.slot_begin[slot + 1]; });
  std::partial_sum(out.slot_begin.begin(), out.slot_begin.end(), out.slot_begin.begin());
  std::vector<std::int32_t> next_choice(out.slot_begin.begin(), out.slot_begin.end() - 1);
  out.arrival.resize(static_cast<std::size_t>(num_rows));
  out.choice_row.resize(static_cast<std::size_t>(num_rows));
  out.choice_weight.resize(static_cast<std::size_t>(num_rows));
  for_each_local_choice(
      plan, [&](std::size_t slot, std::size_t arrival, std::size_t local, float weight) {
        const auto row = static_cast<std::size_t>(next_row[local]++);
        const auto choice = static_cast<std::size_t>(next_choice[slot]++);
        out.arrival[row] = plan.arrived_place.empty() ? static_cast<std::int32_t>(arrival)
                                                      : plan.arrived_place[arrival];
        out.choice_row[choice] = static_cast<std::int32_t>(row);
        out.choice_weight[choice] = weight;
      });
}

}  // namespace dovetail
