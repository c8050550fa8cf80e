// The arithmetic of `dovetail bench partition`: from time stamps on two lanes to the figures of a
// row. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/config/choices.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {

/// The median of samples, and how far they spread.
struct Spread {
  double median = 0;
  double low = 0;   ///< a tenth of the samples is smaller
  double high = 0;  ///< a tenth of them is larger
};

/// By the nearest ranks. ContractError without samples.
Spread spread_of(std::vector<double> samples);

/// `marks`: microseconds at which the ops of a lane ended, one behind the other, ascending, from
/// the start of the lane at 0. The durations of those that had ended by `until`, which is when the
/// other lane ended: they ran beside it from start to end. The first op in any case, so that there
/// is one.
std::vector<double> durations_until(std::span<const double> marks, double until);

/// How often each of two ops is done one behind the other, so that both lanes last about equally
/// long, `target_us` or a little more: at least kLeastOps times.
inline constexpr int kLeastOps = 4;

struct OpCounts {
  int compute = kLeastOps;
  int exchange = kLeastOps;
};

OpCounts counts_for(double compute_us, double exchange_us, double target_us);

/// A kind of compute beside an exchange under one partition. Times are of one op in a graph,
/// microseconds, of the slowest rank. Without other ranks there is nothing beside.
struct PartitionRow {
  std::string compute;
  SmPartitionKind partition = SmPartitionKind::soft;
  int comm_sms = kAllSms;
  int compute_sms = 0;  ///< that are left to compute
  Spread compute_alone;
  std::optional<Spread> compute_beside;
  std::optional<Spread> exchange_alone;
  std::optional<Spread> exchange_beside;
  double together_us = 0;           ///< both lanes' ops at once, the median of many
  double sum_us = 0;                ///< the same ops, one lane behind the other: from times alone
  double longer_us = 0;             ///< of the two lanes alone
  std::int64_t wrong_compute = 0;   ///< elements of all ranks with other bits than alone on all SMs
  std::int64_t wrong_exchange = 0;  ///< elements of all ranks that have not arrived as sent
};

/// How much of the shorter lane the longer one hid: 1 = all of it, 0 = none; below 0 where it took
/// longer than one lane behind the other. Nothing without an exchange.
std::optional<double> hidden_share(const PartitionRow& row);

/// What an op takes beside the other one, over what it takes alone: with the same partition, and
/// with all SMs, which is `all`, the row of the same compute without a bound.
struct Contention {
  double of_same = 1;
  double of_all = 1;
};

/// Nothing without an exchange.
std::optional<Contention> compute_contention(const PartitionRow& row, const PartitionRow& all);
std::optional<Contention> exchange_contention(const PartitionRow& row, const PartitionRow& all);

/// The first row of the same compute whose exchange is not bounded; null = there is none.
const PartitionRow* row_of_all_sms(std::span<const PartitionRow> rows, const std::string& compute);

}  // namespace dovetail
