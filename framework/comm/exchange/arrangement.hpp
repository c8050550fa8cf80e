// The order of expert rows on the rank that owns the experts, derived from what arrived. Shared by
// all back ends: it fixes the order of summation.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/comm/exchange/routing_plan.hpp"

namespace dovetail {

/// Expert rows are ordered by local expert, then source rank, then source token. A slot is a row
/// that goes back (routing_plan.hpp), in the order of those; its choices stay in ascending k.
struct Arrangement {
  std::vector<std::int32_t> offsets;  ///< [experts_per_rank] cumulative ends
  std::vector<std::int32_t> arrival;  ///< [expert rows] where the arrival lies that each row copies
  std::vector<std::int32_t> slot_begin;  ///< [slots + 1] into the two vectors below
  std::vector<std::int32_t> choice_row;  ///< [expert rows] by slot: expert row of each choice
  std::vector<float> choice_weight;      ///< [expert rows] by slot
};

/// Fills `out` (vectors keep their memory) from a complete plan. Throws ContractError for more than
/// 2^31 - 1 expert rows.
void arrange_choices(const RoutingPlan& plan, Arrangement& out);

}  // namespace dovetail
