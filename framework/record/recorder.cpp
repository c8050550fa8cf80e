#include "framework/record/recorder.hpp"

#include <array>
#include <string>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/record/rank_file_layout.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// Row-major pairs (start, end) of each op.
std::vector<std::int64_t> interleave(std::span<const std::int64_t> start,
                                     std::span<const std::int64_t> end) {
  DOVETAIL_CHECK_EQ(start.size(), end.size());
  std::vector<std::int64_t> pairs;
  pairs.reserve(2 * start.size());
  for (std::size_t i = 0; i < start.size(); ++i) {
    pairs.push_back(start[i]);
    pairs.push_back(end[i]);
  }
  return pairs;
}

/// One row of a table of /hash, which begins at `place`.
void write_hash(hdf5::Dataset& dataset, const hdf5::Shape& place, const HashRow& row) {
  const std::array<std::int64_t, kNumHashColumns> columns = {
      row.variant, row.schedule, row.hash.outputs, row.hash.kv, row.hash.routing};
  hdf5::Shape count(place.size(), 1);
  count.back() = kNumHashColumns;
  dataset.write_box(place, count, std::as_bytes(std::span(columns)));
}

}  // namespace

RankRecorder::RankRecorder(const fs::path& path, const RankFileSpec& spec) : path_(path) {
  create_rank_file(path, spec);
  file_.emplace(hdf5::File::open(path.string(), hdf5::Access::read_write));
  step_ns_.emplace(file_->open_dataset(path::kStepNs));
  enqueue_ns_.emplace(file_->open_dataset(path::kStepEnqueueNs));
  start_ns_.emplace(file_->open_dataset(path::kStepStartNs));
  before_ns_.emplace(file_->open_dataset(path::kBeforeNs));
  round_.emplace(file_->open_dataset(path::kRound));
  decision_.emplace(file_->open_dataset(path::kDecision));
  timed_hash_.emplace(file_->open_dataset(path::kTimedHash));
  hash_ns_.emplace(file_->open_dataset(path::kHashNs));
}

hdf5::File& RankRecorder::file() {
  DOVETAIL_CHECK(file_.has_value(), path_.string() + " is finished");
  return *file_;
}

void RankRecorder::write_round_place(std::int64_t round, std::int64_t place) {
  file()
      .open_dataset(path::kRoundPlace)
      .write_box({round}, {1}, std::as_bytes(std::span(&place, 1)));
}

void RankRecorder::write_clock(std::int64_t row, const ClockPoint& point) {
  const std::array<std::int64_t, kNumClockColumns> values = {
      point.at_ns, point.offset_ns, point.error_ns};
  file()
      .open_dataset(path::kClock)
      .write_box({row, 0}, {1, kNumClockColumns}, std::as_bytes(std::span(values)));
}

void RankRecorder::write_start(std::int64_t iteration,
                               std::int64_t step,
                               std::int64_t round,
                               std::int64_t start_ns) {
  file();
  round_->write_box({iteration}, {1}, std::as_bytes(std::span(&round, 1)));
  start_ns_->write_box({iteration, step}, {1, 1}, std::as_bytes(std::span(&start_ns, 1)));
}

void RankRecorder::write_before(std::int64_t iteration,
                                std::int64_t step,
                                const BeforeStep& before) {
  file();
  const std::array<std::int64_t, kNumBeforeColumns> row = {
      before.agreement_ns, before.preparation_ns, before.meeting_ns};
  before_ns_->write_box(
      {iteration, step, 0}, {1, 1, kNumBeforeColumns}, std::as_bytes(std::span(row)));
}

void RankRecorder::write_step(std::int64_t iteration,
                              std::int64_t step,
                              std::int64_t step_ns,
                              const DecisionRow& decision,
                              std::int64_t enqueue_ns) {
  file();
  const std::array<std::int64_t, kNumDecisionColumns> row = {decision.ubatched,
                                                             decision.graph,
                                                             decision.schedule,
                                                             decision.reason,
                                                             decision.veto_rank,
                                                             decision.eager_reason,
                                                             decision.captured};
  if (enqueue_ns >= 0) {
    enqueue_ns_->write_box({iteration, step}, {1, 1}, std::as_bytes(std::span(&enqueue_ns, 1)));
  }
  decision_->write_box(
      {iteration, step, 0}, {1, 1, kNumDecisionColumns}, std::as_bytes(std::span(row)));
  step_ns_->write_box({iteration, step}, {1, 1}, std::as_bytes(std::span(&step_ns, 1)));
}

void RankRecorder::write_timed_hash(std::int64_t iteration,
                                    std::int64_t step,
                                    const HashRow& row,
                                    std::int64_t hash_ns) {
  file();
  hash_ns_->write_box({iteration, step}, {1, 1}, std::as_bytes(std::span(&hash_ns, 1)));
  write_hash(*timed_hash_, {iteration, step, 0}, row);
}

void RankRecorder::write_profiled_hash(std::int64_t index, const HashRow& row) {
  auto dataset = file().open_dataset(path::kProfiledHash);
  write_hash(dataset, {index, 0}, row);
}

void RankRecorder::write_poisoned_hash(std::int64_t variant,
                                       std::int64_t step,
                                       const HashRow& row) {
  auto dataset = file().open_dataset(path::kPoisonedHash);
  write_hash(dataset, {variant, step, 0}, row);
}

void RankRecorder::write_profiled_pass(std::int64_t index, const ProfiledPass& pass) {
  if (const char* ops = op_times_path(pass.pass); ops != nullptr) {
    const auto pairs = interleave(pass.op_start_ns, pass.op_end_ns);
    const auto num_ops = static_cast<std::int64_t>(pass.op_start_ns.size());
    file().open_dataset(ops).write_box(
        {index, 0, 0}, {1, num_ops, 2}, std::as_bytes(std::span(pairs)));
  }
  const std::array<std::int64_t, 2> step = {pass.step_start_ns, pass.step_end_ns};
  const auto place = static_cast<std::int64_t>(pass.pass);
  const bool is_first = place < kNumFirstPasses;
  file()
      .open_dataset(is_first ? path::kProfiledStepNs : path::kFurtherStepNs)
      .write_box({index, is_first ? place : place - kNumFirstPasses, 0},
                 {1, 1, 2},
                 std::as_bytes(std::span(step)));
}

void RankRecorder::write_profiled_host(std::int64_t index, const ProfiledHost& host) {
  const auto write_row = [&](const char* dataset, std::span<const std::int64_t> values) {
    file().open_dataset(dataset).write_box(
        {index, 0}, {1, static_cast<std::int64_t>(values.size())}, std::as_bytes(values));
  };
  const auto write_one = [&](const char* dataset, std::int64_t value) {
    file().open_dataset(dataset).write_box({index}, {1}, std::as_bytes(std::span(&value, 1)));
  };
  write_row(path::kEnqueuedNs, host.enqueued_ns);
  write_row(path::kHandOffWaitNs, host.hand_off_wait_ns);
  write_one(path::kCountsWaitNs, host.counts_wait_ns);
  write_one(path::kProfiledSchedule, host.schedule);
}

void RankRecorder::write(const std::string& dataset,
                         DType dtype,
                         std::span<const std::byte> bytes) {
  auto target = file().open_dataset(dataset);
  DOVETAIL_CHECK_EQ(to_string(target.dtype()), to_string(dtype));
  target.write(bytes);
}

void RankRecorder::write(const std::string& dataset, std::span<const std::int64_t> values) {
  write(dataset, DType::int64, std::as_bytes(values));
}

void RankRecorder::write(const std::string& dataset, std::span<const std::int32_t> values) {
  write(dataset, DType::int32, std::as_bytes(values));
}

void RankRecorder::write(const std::string& dataset, std::span<const float> values) {
  write(dataset, DType::float32, std::as_bytes(values));
}

void RankRecorder::write_scalar(const std::string& dataset, std::int64_t value) {
  write(dataset, std::span<const std::int64_t>(&value, 1));
}

void RankRecorder::write_graph_counters(const GraphCounters& counters) {
  for (const auto& [dataset, field] : kGraphCounterFields) {
    write_scalar(dataset, counters.*field);
  }
  write(path::kGraphEagerSteps, std::span<const std::int64_t>(counters.eager_by_reason));
}

void RankRecorder::write_memory(const MemoryRecord& memory) {
  for (const auto& [dataset, field] : kMemoryFields) {
    write_scalar(dataset, memory.*field);
  }
}

void RankRecorder::write_rows(const std::string& dataset,
                              DType dtype,
                              std::int64_t first_row,
                              std::span<const std::byte> bytes) {
  auto target = file().open_dataset(dataset);
  DOVETAIL_CHECK_EQ(to_string(target.dtype()), to_string(dtype));
  hdf5::Shape count = target.shape();
  DOVETAIL_CHECK(!count.empty(), target.name() + " is a scalar");
  count[0] = 1;
  const std::int64_t row_bytes =
      hdf5::num_elements(count) * static_cast<std::int64_t>(size_of(dtype));
  const auto num_bytes = static_cast<std::int64_t>(bytes.size());
  DOVETAIL_CHECK(row_bytes > 0 ? num_bytes % row_bytes == 0 : num_bytes == 0,
                 target.name() + ": " + std::to_string(num_bytes) +
                     " bytes are not whole rows of " + std::to_string(row_bytes));
  count[0] = row_bytes > 0 ? num_bytes / row_bytes : 0;
  hdf5::Shape start(count.size(), 0);
  start[0] = first_row;
  target.write_box(start, count, bytes);
}

void RankRecorder::set_attribute(const std::string& object, const hdf5::Attribute& attribute) {
  DOVETAIL_CHECK(!std::holds_alternative<std::string>(attribute.value),
                 "text attributes are given in the spec; the status is set by finish()");
  file().update_attribute(object, attribute);
  file().flush();
}

void RankRecorder::finish(RunStatus status, const std::string& failure) {
  DOVETAIL_CHECK(status != RunStatus::running, "a finished run has another status");
  auto& open_file = file();
  step_ns_.reset();
  enqueue_ns_.reset();
  start_ns_.reset();
  before_ns_.reset();
  round_.reset();
  decision_.reset();
  timed_hash_.reset();
  hash_ns_.reset();
  open_file.update_attribute("/", {attribute::kFailure, failure});
  open_file.flush();
  open_file.update_attribute("/", {attribute::kStatus, std::string(to_string(status))});
  open_file.flush();
  open_file.close();
  file_.reset();
}

}  // namespace dovetail
