#include "framework/run/clock_record.hpp"

#include <cstddef>

#include "framework/record/schema_table.hpp"

namespace dovetail {

ClockPoint clock_point(const ClockOffset& offset) {
  return {offset.at_ns, -offset.offset_ns, offset.error_bound_ns};
}

ClockRecord::ClockRecord(const RunContext& run, RankRecorder& recorder, int num_rounds)
    : run_(run), recorder_(recorder), rows_(static_cast<std::size_t>(clock_points(num_rounds))) {}

void ClockRecord::estimate(std::int64_t row) {
  auto& point = rows_.at(static_cast<std::size_t>(row));
  point = clock_point(estimate_clock_offset(run_.ranks.groups.world, run_.ranks.wait));
  recorder_.write_clock(row, point);
}

void ClockRecord::write_offset() {
  const auto& before = rows_[rows_.size() - 2];
  const auto middle_ns = before.at_ns / 2 + rows_.back().at_ns / 2;
  const RankClock clock(rows_);
  recorder_.set_attribute(path::kTiming, {attribute::kClockOffsetNs, clock.offset_ns(middle_ns)});
  recorder_.set_attribute(path::kTiming, {attribute::kClockErrorNs, clock.error_ns(middle_ns)});
}

}  // namespace dovetail
