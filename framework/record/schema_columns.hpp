// The columns of datasets whose columns have names, which their attribute `columns` gives.
#pragma once

#include <cstdint>

namespace dovetail {

/// The columns of /timing/decision, in order.
inline constexpr const char* kDecisionColumns =
    "ubatched,graph,schedule,reason,veto_rank,eager_reason,captured";
inline constexpr int kNumDecisionColumns = 7;

/// Of a file of that schema version: version 2 had the first five.
constexpr int num_decision_columns(std::int64_t schema_version) {
  return schema_version < 3 ? 5 : kNumDecisionColumns;
}

/// The columns of /hash/timed, /hash/profiled and /hash/poisoned, in order.
inline constexpr const char* kHashColumns = "variant,schedule,outputs,kv,routing";
inline constexpr int kNumHashColumns = 5;

/// The columns of /timing/before_ns, in order.
inline constexpr const char* kBeforeColumns = "agreement,preparation,meeting";
inline constexpr int kNumBeforeColumns = 3;

}  // namespace dovetail
