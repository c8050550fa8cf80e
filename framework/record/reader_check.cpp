#include "framework/record/reader_check.hpp"

#include <algorithm>
#include <utility>

#include "framework/record/schema.hpp"

namespace dovetail::detail {
namespace {

enum class Kind { text, integer };

struct AttributeRule {
  const char* object;
  const char* name;
  Kind kind;
};

constexpr AttributeRule kRequiredAttributes[] = {
    {"/", attribute::kStatus, Kind::text},
    {"/", attribute::kFailure, Kind::text},
    {"/", attribute::kExperiment, Kind::text},
    {"/", attribute::kPolicy, Kind::text},
    {"/", attribute::kRank, Kind::integer},
    {"/", attribute::kWorldSize, Kind::integer},
    {"/", attribute::kDpRank, Kind::integer},
    {"/", attribute::kEpRank, Kind::integer},
    {"/", attribute::kExpertParallel, Kind::integer},
    {"/", attribute::kHost, Kind::text},
    {"/", attribute::kDevice, Kind::text},
    {"/", attribute::kStartedAt, Kind::text},
    {"/", attribute::kWeightsDigest, Kind::text},
    {"/", attribute::kInputsDigest, Kind::text},
    {path::kTiming, attribute::kClockOffsetNs, Kind::integer},
    {path::kTiming, attribute::kClockErrorNs, Kind::integer},
    {path::kTraffic, attribute::kFirstExpert, Kind::integer},
};

template <class T>
T attribute_of(const hdf5::File& file,
               const std::string& object,
               const std::string& name,
               const char* kind) {
  return as_input_error([&] {
    const std::string where = file.path() + ": " + object;
    if (!file.exists(object)) {
      throw InputError(where + ": missing");
    }
    if (!file.has_attribute(object, name)) {
      throw InputError(where + ": attribute '" + name + "' is missing");
    }
    auto value = file.attribute(object, name);
    if (auto* found = std::get_if<T>(&value)) {
      return std::move(*found);
    }
    throw InputError(where + ": attribute '" + name + "' is not " + kind);
  });
}

void check_attributes(const hdf5::File& file) {
  const auto version = integer_of(file, "/", attribute::kSchemaVersion);
  if (version < kOldestSchemaVersion || version > kSchemaVersion) {
    throw InputError(file.path() + ": schema version " + std::to_string(version) +
                     "; this build reads versions " + std::to_string(kOldestSchemaVersion) +
                     " to " + std::to_string(kSchemaVersion));
  }
  for (const auto& rule : kRequiredAttributes) {
    if (rule.kind == Kind::text) {
      text_of(file, rule.object, rule.name);
    } else {
      integer_of(file, rule.object, rule.name);
    }
  }
}

void check_dataset(const hdf5::File& file, const DatasetRule& rule) {
  const bool required =
      rule.required && integer_of(file, "/", attribute::kSchemaVersion) >= rule.since;
  if (!required && !file.exists(rule.path)) {
    return;
  }
  const auto dataset = open_numbers(file, rule.path);
  const auto dimensions = static_cast<int>(dataset.shape().size());
  if (dataset.dtype() != rule.dtype) {
    throw InputError(dataset.name() + ": element type " + std::string(to_string(dataset.dtype())) +
                     " instead of " + std::string(to_string(rule.dtype)));
  }
  if (dimensions < rule.min_dimensions || dimensions > rule.max_dimensions) {
    throw InputError(dataset.name() + ": shape " + hdf5::to_string(dataset.shape()) +
                     " instead of " + std::to_string(rule.min_dimensions) +
                     (rule.min_dimensions == rule.max_dimensions
                          ? ""
                          : " to " + std::to_string(rule.max_dimensions)) +
                     " dimensions");
  }
}

/// The lengths that datasets share must agree.
void check_shapes(const hdf5::File& file) {
  const auto shape = [&](const char* dataset) { return open_numbers(file, dataset).shape(); };
  const auto expect = [&](const char* dataset, const hdf5::Shape& wanted) {
    if (shape(dataset) != wanted) {
      throw InputError(file.path() + ": " + dataset + ": shape " + hdf5::to_string(shape(dataset)) +
                       " instead of " + hdf5::to_string(wanted));
    }
  };
  const auto steps = shape(path::kStepNs);
  const auto version = integer_of(file, "/", attribute::kSchemaVersion);
  expect(path::kDecision, {steps[0], steps[1], num_decision_columns(version)});
  if (file.exists(path::kStepEnqueueNs)) {
    expect(path::kStepEnqueueNs, steps);
  }
  const auto ops = shape(path::kOps);
  expect(path::kOps, {ops[0], ops[1], 2});
  expect(path::kOpsComputeOnly, ops);
  expect(path::kOpsCommOnly, ops);
  expect(path::kProfiledStepNs, {ops[0], 3, 2});
  expect(path::kProfiledSchedule, {ops[0]});
  expect(path::kEnqueuedNs, {ops[0], ops[1]});
  expect(path::kHandOffWaitNs, {ops[0], ops[1]});
  expect(path::kCountsWaitNs, {ops[0]});
  const auto tokens = shape(path::kInputIds);
  expect(path::kRequestId, tokens);
  expect(path::kPositions, tokens);
  if (file.exists(path::kMropePositions)) {
    expect(path::kMropePositions, {3, tokens[0]});
  }
  expect(path::kRequestPosition, shape(path::kRequests));
  if (file.exists(path::kExpertIds) || file.exists(path::kMargin)) {
    const auto expert_ids = shape(path::kExpertIds);
    expect(path::kExpertIds, {expert_ids[0], tokens[0], expert_ids[2]});
    expect(path::kMargin, {expert_ids[0], tokens[0]});
  }
}

}  // namespace

hdf5::File open_for_reading(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    throw InputError(path.string() + ": no such file");
  }
  try {
    return hdf5::File::open(path.string(), hdf5::Access::read);
  } catch (const hdf5::Hdf5Error& error) {
    const std::string reason = error.what();
    const bool cut = reason.find("truncated file") != std::string::npos;
    throw InputError(
        path.string() + ": " +
        (cut ? "the file is cut: it is shorter than it says" : "not a readable HDF5 file") + " (" +
        reason.substr(std::min(reason.size(), path.string().size() + 2)) + ")");
  }
}

std::string text_of(const hdf5::File& file, const std::string& object, const std::string& name) {
  return attribute_of<std::string>(file, object, name, "a text");
}

std::int64_t integer_of(const hdf5::File& file,
                        const std::string& object,
                        const std::string& name) {
  return attribute_of<std::int64_t>(file, object, name, "an integer");
}

hdf5::Dataset open_numbers(const hdf5::File& file, const std::string& dataset) {
  const std::string where = file.path() + ": " + dataset;
  if (!file.exists(dataset)) {
    throw InputError(where + ": no such dataset");
  }
  if (file.is_group(dataset)) {
    throw InputError(where + ": is a group, not a dataset");
  }
  return as_input_error([&] { return file.open_dataset(dataset); });
}

void check_rank_file(const hdf5::File& file) {
  check_attributes(file);
  as_input_error([&] {
    for (const auto& rule : dataset_rules()) {
      check_dataset(file, rule);
    }
    check_shapes(file);
  });
}

}  // namespace dovetail::detail
