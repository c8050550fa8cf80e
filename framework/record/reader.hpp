// Reading rank files. What a file claims is checked against the schema when it is opened; what is
// wrong is an InputError that names file and place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/rank_clock.hpp"
#include "framework/record/read_handle.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

/// A dense row-major array in memory.
template <class T>
struct Array {
  hdf5::Shape shape;
  std::vector<T> values;  ///< num_elements(shape) values
};

/// One rank file for reading, open while it is read; also one that is being written, or whose
/// writer was killed. Move-only; one thread at a time.
class RankFile {
 public:
  /// InputError where the file is missing, cut, no HDF5 file, of another schema version, where a
  /// required attribute or dataset is missing or has another type, or where a dataset promises more
  /// than the file holds. All reading throws InputError also for what does not fit into memory.
  explicit RankFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }

  RunStatus status() const { return status_; }

  /// Why the run failed; empty where it did not.
  std::string failure() const { return text("failure"); }

  std::int64_t rank() const { return integer("rank"); }

  std::int64_t world_size() const { return integer("world_size"); }

  std::int64_t schema_version() const { return integer(attribute::kSchemaVersion); }

  /// The batches that iterations took in turn; 1 in a file of before schema version 4.
  std::int64_t num_variants() const;

  /// How many of the rows of timed iterations have run, in a file that is complete: fewer than all
  /// where the run ended early (execution.precision). InputError where there are not so many rows.
  std::int64_t timed_iterations() const;

  /// How this rank's clock stood to rank 0's; in a file of before schema version 6 one estimate.
  /// InputError where what is recorded is no clock's (clock_problem).
  RankClock clock() const;

  /// What a GPU's clock adds to the bound of the error of clock(); 0 on the CPU.
  std::int64_t device_clock_error_ns() const;

  /// Bound of the error of all recorded times on rank 0's clock: both together.
  std::int64_t clock_error_ns() const;

  /// A scalar int64; -1 = not there, as in a file of an older version.
  std::int64_t scalar(const std::string& dataset) const;

  /// Whether an object has an attribute.
  bool has_attribute(const std::string& name, const std::string& object = "/") const;

  /// "none", or how the link was emulated.
  std::string link() const;

  /// An attribute of "/" or of another object; InputError where it is missing or of another kind.
  std::string text(const std::string& name, const std::string& object = "/") const;
  std::int64_t integer(const std::string& name, const std::string& object = "/") const;
  /// All attributes of "/", ascending by name.
  std::vector<hdf5::Attribute> attributes() const;

  /// /config: the resolved experiment.
  std::string config() const;
  /// /schedule/0, 1, ... Numbers of ops, layers and ubatches are within the schema's bounds.
  std::vector<ScheduleRecord> schedules() const;
  /// Names under /output, ascending.
  std::vector<std::string> outputs() const;

  /// Paths of all datasets of one of our element types (no text, no tables), ascending.
  std::vector<std::string> numeric_datasets() const;

  bool has(const std::string& dataset) const;
  /// InputError naming file and dataset where it is missing.
  hdf5::Shape shape(const std::string& dataset) const;
  DType dtype(const std::string& dataset) const;

  /// A whole dataset in its own element type; T is int32_t, int64_t, float, double or uint8_t.
  /// InputError where the dataset is missing or of another type.
  template <class T>
  Array<T> read(const std::string& dataset) const;

  /// A floating-point dataset (float32, float16, bfloat16) as float, exactly.
  Array<float> read_floats(const std::string& dataset) const;
  /// Rows [first_row, first_row + num_rows) of it.
  Array<float> read_floats(const std::string& dataset,
                           std::int64_t first_row,
                           std::int64_t num_rows) const;

  /// The bytes of a whole dataset in its own dtype (bitwise comparison).
  std::vector<std::byte> read_bytes(const std::string& dataset) const;

 private:
  /// "<file>: <object>", for messages.
  std::string where(const std::string& object) const;
  hdf5::Dataset open(const std::string& dataset) const;

  std::filesystem::path path_;
  ReadHandle handle_;
  RunStatus status_ = RunStatus::running;
};

}  // namespace dovetail
