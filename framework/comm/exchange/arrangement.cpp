#include "framework/comm/exchange/arrangement.hpp"

#include <cstring>
#include <limits>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// Calls visit(arrival, local expert, weight) in order of arrival, then k; end_of_slot() after each
// arrival that has at least one local expert.
template <class Visit, class EndOfSlot>
void for_each_local_choice(const RoutingPlan& plan, Visit visit, EndOfSlot end_of_slot) {
  const auto k = static_cast<std::size_t>(plan.shape.top_k);
  const auto width = plan.metadata_width();
  const auto num_arrivals = plan.num_arrivals();
  for (std::int64_t arrival = 0; arrival < num_arrivals; ++arrival) {
    const auto* row = plan.arrived_metadata.data() + static_cast<std::size_t>(arrival) * width;
    bool is_slot = false;
    for (std::size_t j = 0; j < k; ++j) {
      const int local = local_expert(plan.shape, row[j]);
      if (local >= 0) {
        float weight = 0;
        std::memcpy(&weight, row + k + j, sizeof weight);
        visit(static_cast<std::int32_t>(arrival), static_cast<std::size_t>(local), weight);
        is_slot = true;
      }
    }
    if (is_slot) {
      end_of_slot();
    }
  }
}

}  // namespace

void arrange_choices(const RoutingPlan& plan, Arrangement& out) {
  std::int64_t num_rows = 0;
  std::vector<std::int64_t> next;
  out.offsets.clear();
  for (const auto rows : plan.tokens_per_expert()) {
    next.push_back(num_rows);
    num_rows += rows;
    DOVETAIL_CHECK(num_rows <= std::numeric_limits<std::int32_t>::max(),
                   "more than 2^31 - 1 expert rows on one rank in one ubatch");
    out.offsets.push_back(static_cast<std::int32_t>(num_rows));
  }

  out.arrival.resize(static_cast<std::size_t>(num_rows));
  out.choice_row.clear();
  out.choice_weight.clear();
  out.slot_begin.assign(1, 0);
  for_each_local_choice(
      plan,
      [&](std::int32_t arrival, std::size_t local, float weight) {
        const auto row = next[local]++;
        out.arrival[static_cast<std::size_t>(row)] = arrival;
        out.choice_row.push_back(static_cast<std::int32_t>(row));
        out.choice_weight.push_back(weight);
      },
      [&] { out.slot_begin.push_back(static_cast<std::int32_t>(out.choice_row.size())); });
}

}  // namespace dovetail
