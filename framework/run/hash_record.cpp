#include "framework/run/hash_record.hpp"

#include "framework/base/clock.hpp"

namespace dovetail {

HashRecord::HashRecord(const RankWorkload& workload,
                       Iteration& iteration,
                       const std::vector<StepOutputs>& outputs,
                       RankRecorder& recorder)
    : workload_(workload), hasher_(workload, iteration, outputs), recorder_(recorder) {}

void HashRecord::begin_turn() {
  turn_ = hasher_.of_untouched();
  if (!first_) {
    first_ = turn_;
    recorder_.write_scalar(path::kUntouchedBefore, turn_);
  }
}

void HashRecord::end_turn() {
  change_ += static_cast<std::uint64_t>(hasher_.of_untouched()) - static_cast<std::uint64_t>(turn_);
}

void HashRecord::write_untouched_after() {
  constexpr std::uint64_t bits = ~std::uint64_t{0} >> 1U;  // hashes are not negative
  const auto after = (static_cast<std::uint64_t>(*first_) + change_) & bits;
  recorder_.write_scalar(path::kUntouchedAfter, static_cast<std::int64_t>(after));
}

void HashRecord::write_timed(int iteration, int variant, const std::vector<int>& schedules) {
  for (std::size_t step = 0; step < schedules.size(); ++step) {
    const auto start_ns = now_ns();
    const auto hashed = row(variant, step, schedules[step]);
    recorder_.write_timed_hash(
        iteration, static_cast<std::int64_t>(step), hashed, now_ns() - start_ns);
  }
}

void HashRecord::write_poisoned(int variant, const std::vector<int>& schedules) {
  for (std::size_t step = 0; step < schedules.size(); ++step) {
    recorder_.write_poisoned_hash(
        variant, static_cast<std::int64_t>(step), row(variant, step, schedules[step]));
  }
}

void HashRecord::write_profiled(int index, int variant, int step, int schedule) {
  recorder_.write_profiled_hash(index, row(variant, static_cast<std::size_t>(step), schedule));
}

HashRow HashRecord::row(int variant, std::size_t step, int schedule) const {
  const auto place = static_cast<std::size_t>(variant) * workload_.steps_per_iteration() + step;
  return {.variant = variant, .schedule = schedule, .hash = hasher_.of_step(place)};
}

}  // namespace dovetail
