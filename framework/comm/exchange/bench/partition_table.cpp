#include "framework/comm/exchange/bench/partition_table.hpp"

#include <algorithm>
#include <cmath>

#include "framework/base/check.hpp"
#include "framework/base/order_statistics.hpp"

namespace dovetail {
namespace {

std::optional<Contention> contention(const std::optional<Spread>& beside,
                                     const std::optional<Spread>& alone,
                                     const std::optional<Spread>& alone_on_all) {
  if (!beside || !alone || !alone_on_all) {
    return std::nullopt;
  }
  return Contention{.of_same = beside->median / alone->median,
                    .of_all = beside->median / alone_on_all->median};
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
  DOVETAIL_CHECK(!samples.empty(), "a spread needs samples");
  const double middle = median(samples);  // ahead of the order, which it changes
  std::sort(samples.begin(), samples.end());
  const auto tenth = (samples.size() - 1) / 10;
  return {.median = middle, .low = samples[tenth], .high = samples[samples.size() - 1 - tenth]};
}

std::vector<double> durations_until(std::span<const double> marks, double until) {
  std::vector<double> durations;
  double begin = 0;
  for (const double end : marks) {
    if (end <= until || durations.empty()) {
      durations.push_back(end - begin);
    }
    begin = end;
  }
  return durations;
}

OpCounts counts_for(double compute_us, double exchange_us, double target_us) {
  const auto count = [](double us, double target) {
    return std::max(kLeastOps, static_cast<int>(std::lround(target / us)));
  };
  // The longer op decides, where even the fewest of it take longer than the target.
  const double target = std::max(target_us, kLeastOps * std::max(compute_us, exchange_us));
  return {.compute = count(compute_us, target), .exchange = count(exchange_us, target)};
}

std::optional<double> hidden_share(const PartitionRow& row) {
  if (!row.exchange_alone) {
    return std::nullopt;
  }
  return (row.sum_us - row.together_us) / (row.sum_us - row.longer_us);
}

std::optional<Contention> compute_contention(const PartitionRow& row, const PartitionRow& all) {
  return contention(row.compute_beside, row.compute_alone, all.compute_alone);
}

std::optional<Contention> exchange_contention(const PartitionRow& row, const PartitionRow& all) {
  return contention(row.exchange_beside, row.exchange_alone, all.exchange_alone);
}

const PartitionRow* row_of_all_sms(std::span<const PartitionRow> rows, const std::string& compute) {
  for (const auto& row : rows) {
    if (row.compute == compute && row.comm_sms == kAllSms) {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace dovetail
