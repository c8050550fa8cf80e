// Writes one rank's file of a run. What a write call has returned from survives a killed process:
// every dataset has its final place in the file before the first iteration, and nothing but raw
// data (and at the end the status) is written after that.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "framework/base/graph_counters.hpp"
#include "framework/base/types.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/rank_clock.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

/// One pass of a profiled step (no op times of ProfilePass::unrecorded); times in ns of this rank's
/// clock. The op times are in the schedule's order, -1 where an op did not run.
struct ProfiledPass {
  ProfilePass pass = ProfilePass::full;
  std::int64_t step_start_ns = -1;
  std::int64_t step_end_ns = -1;
  std::span<const std::int64_t> op_start_ns;
  std::span<const std::int64_t> op_end_ns;
};

/// What the host did in the full pass of a profiled step.
struct ProfiledHost {
  std::int64_t schedule = -1;  ///< index into /schedule
  std::span<const std::int64_t> enqueued_ns;
  std::span<const std::int64_t> hand_off_wait_ns;
  std::int64_t counts_wait_ns = -1;  ///< time blocked on row counts
};

/// Owns a rank file that is being written. Immovable; all calls from one thread. Failures to write
/// throw hdf5::Hdf5Error, calls that contradict the spec ContractError. The destructor closes the
/// file and leaves `status` as it is: a run that was not finished reads as "running".
class RankRecorder {
 public:
  /// Creates the file with every dataset allocated and filled (-1, NaN) and status "running". The
  /// name `path` appears only when the file is whole, and never replaces a file: InputError where
  /// there is one.
  RankRecorder(const std::filesystem::path& path, const RankFileSpec& spec);
  ~RankRecorder() = default;
  RankRecorder(const RankRecorder&) = delete;
  RankRecorder& operator=(const RankRecorder&) = delete;
  RankRecorder(RankRecorder&&) = delete;
  RankRecorder& operator=(RankRecorder&&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Before the first step of a round: the policy's place in the round's order.
  void write_round_place(std::int64_t round, std::int64_t place);

  /// A row of /timing/clock: before or after a round, or the profiled iterations (clock_points).
  void write_clock(std::int64_t row, const ClockPoint& point);

  /// Behind a timed step and before write_step: when it began, on this rank's clock.
  void write_start(std::int64_t iteration,
                   std::int64_t step,
                   std::int64_t round,
                   std::int64_t start_ns);

  /// Of a timed step.
  void write_before(std::int64_t iteration, std::int64_t step, const BeforeStep& before);

  /// A timed step. A step_ns that is not -1 implies that the decision is there, too. `enqueue_ns`:
  /// host time until everything was enqueued; -1 = not known (on the CPU).
  void write_step(std::int64_t iteration,
                  std::int64_t step,
                  std::int64_t step_ns,
                  const DecisionRow& decision,
                  std::int64_t enqueue_ns = -1);

  /// What a step of a timed iteration (and how long it took to hash it), of a profiled step's full
  /// pass, of a variant's iteration with poisoned buffers has left.
  void write_timed_hash(std::int64_t iteration,
                        std::int64_t step,
                        const HashRow& row,
                        std::int64_t hash_ns);
  void write_profiled_hash(std::int64_t index, const HashRow& row);
  void write_poisoned_hash(std::int64_t variant, std::int64_t step, const HashRow& row);

  /// `index` counts profiled steps from 0: profiled iteration * steps + step.
  void write_profiled_pass(std::int64_t index, const ProfiledPass& pass);
  void write_profiled_host(std::int64_t index, const ProfiledHost& host);

  /// A whole dataset (inputs, outputs, routes, traffic) in its own dtype.
  void write(const std::string& dataset, DType dtype, std::span<const std::byte> bytes);
  void write(const std::string& dataset, std::span<const std::int64_t> values);
  void write(const std::string& dataset, std::span<const std::int32_t> values);
  void write(const std::string& dataset, std::span<const float> values);
  /// A scalar int64 (traffic).
  void write_scalar(const std::string& dataset, std::int64_t value);

  /// How often steps of the policy ran as graphs; all zero without graphs.
  void write_graph_counters(const GraphCounters& counters);
  void write_memory(const MemoryRecord& memory);

  /// Rows [first_row, ...) of a dataset, as many as `bytes` holds.
  void write_rows(const std::string& dataset,
                  DType dtype,
                  std::int64_t first_row,
                  std::span<const std::byte> bytes);

  /// Changes a number that is already there, e.g. clock_offset_ns on /timing.
  void set_attribute(const std::string& object, const hdf5::Attribute& attribute);

  /// Writes `failure` (cut to 1024 bytes), then the status, and closes the file. Nothing can be
  /// written after that. `status` is not `running`.
  void finish(RunStatus status, const std::string& failure = "");

 private:
  hdf5::File& file();

  std::filesystem::path path_;
  std::optional<hdf5::File> file_;  ///< nothing once finished
  std::optional<hdf5::Dataset> step_ns_;
  std::optional<hdf5::Dataset> enqueue_ns_;
  std::optional<hdf5::Dataset> start_ns_;
  std::optional<hdf5::Dataset> before_ns_;
  std::optional<hdf5::Dataset> round_;
  std::optional<hdf5::Dataset> decision_;
  std::optional<hdf5::Dataset> timed_hash_;
  std::optional<hdf5::Dataset> hash_ns_;
};

}  // namespace dovetail
