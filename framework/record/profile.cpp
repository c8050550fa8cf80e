#include "framework/record/profile.hpp"

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// The integer tables of /timing that describe profiled steps.
class ProfileTables {
 public:
  explicit ProfileTables(const RankFile& file)
      : file_(file),
        schedules_(file.schedules()),
        clock_(file.clock()),
        device_error_ns_(file.device_clock_error_ns()) {
    num_profiled_ = file.shape(path::kOps).at(0);
    max_ops_ = file.shape(path::kOps).at(1);
    num_passes_ = file.has(path::kFurtherStepNs) ? kNumProfilePasses : kNumFirstPasses;
    for (int pass = 0; pass < num_passes_; ++pass) {
      const char* ops = op_times_path(static_cast<ProfilePass>(pass));
      passes_.push_back(ops == nullptr ? std::vector<std::int64_t>()
                                       : read(ops, {num_profiled_, max_ops_, 2}));
    }
    steps_ = read(path::kProfiledStepNs, {num_profiled_, kNumFirstPasses, 2});
    if (num_passes_ > kNumFirstPasses) {
      further_ =
          read(path::kFurtherStepNs, {num_profiled_, kNumProfilePasses - kNumFirstPasses, 2});
    }
    schedule_of_ = read(path::kProfiledSchedule, {num_profiled_});
    enqueued_ = read(path::kEnqueuedNs, {num_profiled_, max_ops_});
    hand_off_wait_ = read(path::kHandOffWaitNs, {num_profiled_, max_ops_});
  }

  std::vector<RecordedProfile> profiles() const {
    std::vector<RecordedProfile> result;
    for (std::int64_t i = 0; i < num_profiled_; ++i) {
      const bool ran = step_of(i, 0).ran();
      result.push_back(ran ? profile(i) : RecordedProfile{});
    }
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw InputError(file_.path().string() + ": " + message);
  }

  std::vector<std::int64_t> read(const char* dataset, const hdf5::Shape& shape) const {
    Array<std::int64_t> array = file_.read<std::int64_t>(dataset);
    if (array.shape != shape) {
      fail(std::string(dataset) + " has shape " + hdf5::to_string(array.shape) + ", but " +
           path::kOps + " asks for " + hdf5::to_string(shape));
    }
    return std::move(array.values);
  }

  RecordedSpan span(const std::vector<std::int64_t>& table,
                    std::int64_t index,
                    const char* dataset) const {
    const auto at = static_cast<std::size_t>(index) * 2;
    const std::int64_t start = table[at];
    const std::int64_t end = table[at + 1];
    if (start < 0 || end < 0) {
      return {};
    }
    if (end < start) {
      fail(std::string(dataset) + ": entry " + std::to_string(index) + " ends at " +
           std::to_string(end) + " ns, before its start at " + std::to_string(start) + " ns");
    }
    return {on_rank_zero(start), on_rank_zero(believed(end, dataset))};
  }

  RecordedSpan step_of(std::int64_t i, int pass) const {
    constexpr int num_further = kNumProfilePasses - kNumFirstPasses;
    return pass < kNumFirstPasses
               ? span(steps_, i * kNumFirstPasses + pass, path::kProfiledStepNs)
               : span(further_, i * num_further + pass - kNumFirstPasses, path::kFurtherStepNs);
  }

  std::int64_t on_rank_zero(std::int64_t time_ns) const {
    return time_ns + clock_.offset_ns(time_ns);
  }

  std::int64_t believed(std::int64_t time_ns, const char* dataset) const {
    if (time_ns > kMaxTimeNs) {
      fail(std::string(dataset) + ": " + std::to_string(time_ns) + " ns is no time");
    }
    return time_ns;
  }

  RecordedProfile profile(std::int64_t i) const {
    RecordedProfile result;
    result.schedule = schedule_of_[static_cast<std::size_t>(i)];
    if (result.schedule < 0 || result.schedule >= static_cast<std::int64_t>(schedules_.size())) {
      fail(std::string(path::kProfiledSchedule) + ": iteration " + std::to_string(i) +
           " ran schedule " + std::to_string(result.schedule) + ", but the file holds " +
           std::to_string(schedules_.size()));
    }
    const auto num_ops =
        static_cast<std::int64_t>(schedules_[static_cast<std::size_t>(result.schedule)].ops.size());
    if (num_ops > max_ops_) {
      fail(std::string(path::kOps) + " has room for " + counted(max_ops_, "op") +
           ", but schedule " + std::to_string(result.schedule) + " has " + std::to_string(num_ops));
    }
    result.num_passes = num_passes_;
    for (int pass = 0; pass < num_passes_; ++pass) {
      auto& own = result.passes.at(static_cast<std::size_t>(pass));
      own.step = step_of(i, pass);
      const auto& times = passes_[static_cast<std::size_t>(pass)];
      const char* ops = op_times_path(static_cast<ProfilePass>(pass));
      for (std::int64_t op = 0; ops != nullptr && op < num_ops; ++op) {
        own.ops.push_back(span(times, i * max_ops_ + op, ops));
      }
    }
    const auto began_ns = steps_[static_cast<std::size_t>(i * kNumFirstPasses * 2)];
    result.clock_error_ns = clock_.error_ns(began_ns) + device_error_ns_;
    for (std::int64_t op = 0; op < num_ops; ++op) {
      const auto at = static_cast<std::size_t>(i * max_ops_ + op);
      result.enqueued_ns.push_back(
          enqueued_[at] < 0 ? -1 : on_rank_zero(believed(enqueued_[at], path::kEnqueuedNs)));
      result.hand_off_wait_ns.push_back(believed(hand_off_wait_[at], path::kHandOffWaitNs));
    }
    return result;
  }

  const RankFile& file_;
  std::vector<ScheduleRecord> schedules_;
  RankClock clock_;
  std::int64_t device_error_ns_;
  std::int64_t num_profiled_ = 0;
  std::int64_t max_ops_ = 0;
  int num_passes_ = 0;
  std::vector<std::vector<std::int64_t>> passes_;  ///< by ProfilePass
  std::vector<std::int64_t> steps_;
  std::vector<std::int64_t> further_;
  std::vector<std::int64_t> schedule_of_;
  std::vector<std::int64_t> enqueued_;
  std::vector<std::int64_t> hand_off_wait_;
};

}  // namespace

std::vector<RecordedProfile> read_profiles(const RankFile& file) {
  if (!file.has(path::kOps) || file.shape(path::kOps).at(0) == 0) {
    return {};
  }
  return ProfileTables(file).profiles();
}

}  // namespace dovetail
