#include "framework/record/reader.hpp"

#include <algorithm>
#include <iterator>
#include <span>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"
#include "framework/record/half.hpp"
#include "framework/record/reader_check.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using detail::as_input_error;
using detail::integer_of;
using detail::open_numbers;
using detail::text_of;

template <class T>
constexpr DType dtype_for();

template <>
constexpr DType dtype_for<std::int32_t>() {
  return DType::int32;
}

template <>
constexpr DType dtype_for<std::int64_t>() {
  return DType::int64;
}

template <>
constexpr DType dtype_for<std::uint8_t>() {
  return DType::uint8;
}

template <>
constexpr DType dtype_for<float>() {
  return DType::float32;
}

template <>
constexpr DType dtype_for<double>() {
  return DType::float64;
}

std::vector<std::int32_t> parse_waits(const std::string& text, const std::string& where) {
  const auto refuse = [&] {
    throw InputError(where + ": waits '" + printable(text) + "' is not a list of indices");
  };
  std::vector<std::int32_t> waits;
  std::size_t start = 0;
  while (start < text.size()) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    const std::string part = text.substr(start, end - start);
    if (part.empty() || part.size() > 9 ||
        part.find_first_not_of("0123456789") != std::string::npos) {
      refuse();
    }
    waits.push_back(std::stoi(part));
    start = end + 1;
  }
  return waits;
}

/// A number of a schedule that readers count up to.
void check_range(std::int64_t value,
                 std::int64_t min,
                 std::int64_t max,
                 const char* what,
                 const std::string& where) {
  if (value < min || value > max) {
    throw InputError(where + ": " + what + " " + std::to_string(value) +
                     "; allowed: " + std::to_string(min) + " to " + std::to_string(max));
  }
}

/// Up to version 4 a schedule's table has no `group`.
std::size_t num_schedule_columns(std::int64_t schema_version) {
  return schema_version < 5 ? 5 : 6;
}

ScheduleRecord read_schedule(const hdf5::File& file, const std::string& table) {
  const std::string where = file.path() + ": " + table;
  const auto columns = as_input_error(where, [&] { return file.read_table(table); });
  const auto num_columns = num_schedule_columns(integer_of(file, "/", attribute::kSchemaVersion));
  const auto column = [&](std::size_t index, const char* name) -> const hdf5::Column& {
    if (columns.size() != num_columns || columns[index].name != name) {
      throw InputError(where + ": columns are not layer, ubatch, phase, lane, waits" +
                       (num_columns > 5 ? ", group" : ""));
    }
    return columns[index];
  };
  const auto* layers = std::get_if<std::vector<std::int32_t>>(&column(0, "layer").values);
  const auto* ubatches = std::get_if<std::vector<std::int32_t>>(&column(1, "ubatch").values);
  const auto* phases = std::get_if<std::vector<std::string>>(&column(2, "phase").values);
  const auto* lanes = std::get_if<std::vector<std::string>>(&column(3, "lane").values);
  const auto* waits = std::get_if<std::vector<std::string>>(&column(4, "waits").values);
  const auto none = std::vector<std::int32_t>(layers == nullptr ? 0 : layers->size(), -1);
  const auto* groups =
      num_columns > 5 ? std::get_if<std::vector<std::int32_t>>(&column(5, "group").values) : &none;
  if (!layers || !ubatches || !phases || !lanes || !waits || !groups) {
    throw InputError(where + ": a column has another type than int32, int32, text, text, text" +
                     (num_columns > 5 ? ", int32" : ""));
  }
  ScheduleRecord schedule;
  schedule.name = text_of(file, table, attribute::kName);
  schedule.num_ubatches = integer_of(file, table, attribute::kNumUbatches);
  schedule.digest = text_of(file, table, attribute::kDigest);
  check_range(schedule.num_ubatches, 1, kMaxRecordedUbatches, attribute::kNumUbatches, where);
  for (std::size_t i = 0; i < layers->size(); ++i) {
    check_range((*layers)[i], -1, kMaxRecordedLayers - 1, "layer", where);
    check_range((*ubatches)[i], 0, schedule.num_ubatches - 1, "ubatch", where);
    check_range((*groups)[i], -1, kMaxRecordedGroups - 1, "group", where);
    schedule.ops.push_back({(*layers)[i],
                            (*ubatches)[i],
                            (*phases)[i],
                            (*lanes)[i],
                            parse_waits((*waits)[i], where),
                            (*groups)[i]});
    for (const auto wait : schedule.ops.back().waits) {
      check_range(wait, 0, std::ssize(*layers) - 1, "waits for op", where);
    }
  }
  return schedule;
}

}  // namespace

RankFile::RankFile(const fs::path& path) : path_(path), handle_(path) {
  detail::check_rank_file(handle_.file());
  status_ = parse_run_status(text(attribute::kStatus), path_.string());
}

bool RankFile::has_attribute(const std::string& name, const std::string& object) const {
  return as_input_error(where(object), [&] { return handle_.file().has_attribute(object, name); });
}

std::string RankFile::link() const {
  return has_attribute(attribute::kLink) ? text(attribute::kLink) : kNoLink;
}

std::int64_t RankFile::num_variants() const {
  return has(path::kPoisonedHash) ? std::max<std::int64_t>(1, shape(path::kPoisonedHash).at(0)) : 1;
}

std::int64_t RankFile::timed_iterations() const {
  const auto rows = shape(path::kStepNs).at(0);
  const auto run = has_attribute(attribute::kIterationsRun, path::kTiming)
                       ? integer(attribute::kIterationsRun, path::kTiming)
                       : -1;
  if (run > rows) {
    throw InputError(this->path().string() + ": " + attribute::kIterationsRun + " is " +
                     std::to_string(run) + " of " + std::to_string(rows));
  }
  return run < 0 || status() != RunStatus::complete ? rows : run;
}

std::int64_t RankFile::scalar(const std::string& dataset) const {
  return has(dataset) ? read<std::int64_t>(dataset).values.at(0) : -1;
}

std::string RankFile::text(const std::string& name, const std::string& object) const {
  return text_of(handle_.file(), object, name);
}

std::int64_t RankFile::integer(const std::string& name, const std::string& object) const {
  return integer_of(handle_.file(), object, name);
}

std::vector<hdf5::Attribute> RankFile::attributes() const {
  return as_input_error(where("/"), [&] { return handle_.file().attributes("/"); });
}

std::string RankFile::config() const {
  return as_input_error(where(path::kConfig),
                        [&] { return handle_.file().read_text(path::kConfig); });
}

std::vector<ScheduleRecord> RankFile::schedules() const {
  return as_input_error(where(path::kSchedule), [&] {
    std::vector<ScheduleRecord> all;
    std::size_t num_ops = 0;
    for (std::string table = std::string(path::kSchedule) + "/0"; has(table);
         table = std::string(path::kSchedule) + "/" + std::to_string(all.size())) {
      all.push_back(read_schedule(handle_.file(), table));
      num_ops += all.back().ops.size();  // one table may be there under many names
      check_range(
          static_cast<std::int64_t>(num_ops), 0, kMaxRecordedOps, "ops up to", where(table));
    }
    return all;
  });
}

std::vector<std::string> RankFile::outputs() const {
  return as_input_error(where(path::kOutput), [&]() -> std::vector<std::string> {
    return handle_.file().exists(path::kOutput) ? handle_.file().children(path::kOutput)
                                                : std::vector<std::string>{};
  });
}

std::vector<std::string> RankFile::numeric_datasets() const {
  return as_input_error(where("/"), [&] {
    auto all = handle_.file().datasets();
    std::erase_if(all, [&](const std::string& dataset) { return !handle_.file().dtype(dataset); });
    return all;
  });
}

bool RankFile::has(const std::string& dataset) const {
  return as_input_error(where(dataset), [&] { return handle_.file().exists(dataset); });
}

std::string RankFile::where(const std::string& object) const {
  return path_.string() + ": " + object;
}

hdf5::Dataset RankFile::open(const std::string& dataset) const {
  return open_numbers(handle_.file(), dataset);
}

hdf5::Shape RankFile::shape(const std::string& dataset) const {
  return open(dataset).shape();
}

DType RankFile::dtype(const std::string& dataset) const {
  return open(dataset).dtype();
}

std::vector<std::byte> RankFile::read_bytes(const std::string& dataset) const {
  const auto source = open(dataset);
  return as_input_error(source.name(), [&] {
    std::vector<std::byte> bytes(static_cast<std::size_t>(source.num_bytes()));
    source.read(bytes);
    return bytes;
  });
}

template <class T>
Array<T> RankFile::read(const std::string& dataset) const {
  const auto source = open(dataset);
  if (source.dtype() != dtype_for<T>()) {
    throw InputError(source.name() + ": element type " + std::string(to_string(source.dtype())) +
                     " instead of " + std::string(to_string(dtype_for<T>())));
  }
  Array<T> array{source.shape(), {}};
  as_input_error(source.name(), [&] {
    array.values.resize(static_cast<std::size_t>(hdf5::num_elements(array.shape)));
    source.read(std::as_writable_bytes(std::span(array.values)));
  });
  return array;
}

template Array<std::int32_t> RankFile::read(const std::string&) const;
template Array<std::int64_t> RankFile::read(const std::string&) const;
template Array<std::uint8_t> RankFile::read(const std::string&) const;
template Array<float> RankFile::read(const std::string&) const;
template Array<double> RankFile::read(const std::string&) const;

Array<float> RankFile::read_floats(const std::string& dataset) const {
  const auto all = shape(dataset);
  if (all.empty()) {
    throw InputError(path_.string() + ": " + dataset + ": is a scalar, not rows");
  }
  return read_floats(dataset, 0, all[0]);
}

Array<float> RankFile::read_floats(const std::string& dataset,
                                   std::int64_t first_row,
                                   std::int64_t num_rows) const {
  const auto source = open(dataset);
  const DType dtype = source.dtype();
  if (dtype != DType::float32 && dtype != DType::float16 && dtype != DType::bfloat16) {
    throw InputError(source.name() + ": element type " + std::string(to_string(dtype)) +
                     " instead of float32, float16 or bfloat16");
  }
  DOVETAIL_CHECK(!source.shape().empty(), source.name() + " is a scalar");
  Array<float> array{source.shape(), {}};
  array.shape[0] = num_rows;
  hdf5::Shape start(array.shape.size(), 0);
  start[0] = first_row;
  DOVETAIL_CHECK(num_rows >= 0, "negative number of rows");
  as_input_error(source.name(), [&] {
    array.values.resize(static_cast<std::size_t>(hdf5::num_elements(array.shape)));
    if (dtype == DType::float32) {
      source.read_box(start, array.shape, std::as_writable_bytes(std::span(array.values)));
      return;
    }
    std::vector<std::uint16_t> halves(array.values.size());
    source.read_box(start, array.shape, std::as_writable_bytes(std::span(halves)));
    std::transform(halves.begin(),
                   halves.end(),
                   array.values.begin(),
                   dtype == DType::bfloat16 ? bfloat16_to_float : float16_to_float);
  });
  return array;
}

}  // namespace dovetail
