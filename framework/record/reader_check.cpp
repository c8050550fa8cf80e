#include "framework/record/reader_check.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "framework/base/file_system.hpp"
#include "framework/base/input_file.hpp"
#include "framework/base/text.hpp"
#include "framework/record/schema.hpp"

namespace dovetail::detail {
namespace {

/// The most elements that an empty dataset has in its other dimensions ([0, 151936] has 151936):
/// nothing in the file backs these lengths.
constexpr std::int64_t kMaxEmptyElements = std::int64_t{1} << 22;

template <class T>
T attribute_of(const hdf5::File& file,
               const std::string& object,
               const std::string& name,
               const char* kind) {
  const std::string where = file.path() + ": " + object;
  return as_input_error(where, [&] {
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
  for (const auto& row : attribute_rows()) {
    const std::string object(row.object);
    const std::string name(row.name);
    if (object == kScheduleTable ||
        (!row.required && !(file.exists(object) && file.has_attribute(object, name)))) {
      continue;
    }
    if (row.kind == AttributeKind::integer) {
      integer_of(file, object, name);
    } else {
      text_of(file, object, name);
    }
  }
  const auto world_size = integer_of(file, "/", attribute::kWorldSize);
  if (world_size < 1 || world_size > kMaxWorldSize) {
    throw InputError(file.path() + ": /: world_size " + std::to_string(world_size) +
                     "; allowed: 1 to " + std::to_string(kMaxWorldSize));
  }
}

/// Datasets of one presence other than `always` are all there or none is.
bool is_required(const hdf5::File& file, const DatasetRow& row, std::int64_t version) {
  if (version < row.since) {
    return false;
  }
  return row.presence == Presence::always ||
         std::any_of(kDatasetRows.begin(), kDatasetRows.end(), [&](const DatasetRow& other) {
           return other.presence == row.presence && file.exists(std::string(other.path));
         });
}

[[noreturn]] void refuse_shape(const hdf5::Dataset& dataset, const std::string& wanted) {
  throw InputError(dataset.name() + ": shape " + hdf5::to_string(dataset.shape()) + " instead of " +
                   wanted);
}

/// Checks datasets one after another: type, number of dimensions, and that datasets that share a
/// dimension have the same length there.
class DatasetCheck {
 public:
  explicit DatasetCheck(const hdf5::File& file)
      : file_(file), version_(integer_of(file, "/", attribute::kSchemaVersion)) {}

  /// Without a dtype any floating-point type will do.
  void check(const DatasetRow& row, std::optional<DType> dtype) {
    const std::string path(row.path);
    if (!is_required(file_, row, version_) && !file_.exists(path)) {
      return;
    }
    const auto dataset = open_numbers(file_, path);
    if (dtype ? dataset.dtype() != *dtype : !is_float(dataset.dtype())) {
      throw InputError(dataset.name() + ": element type " +
                       std::string(to_string(dataset.dtype())) + " instead of " +
                       (dtype ? std::string(to_string(*dtype)) : "a floating-point type"));
    }
    if (dataset.shape().size() != row.shape.size()) {
      refuse_shape(dataset, counted(std::ssize(row.shape), "dimension"));
    }
    hdf5::Shape wanted = dataset.shape();
    std::size_t i = 0;
    for (const Dimension dimension : row.shape) {
      const auto fixed = fixed_length(dimension, version_);
      wanted[i] = fixed ? *fixed : lengths_.try_emplace(dimension, wanted[i]).first->second;
      ++i;
    }
    if (dataset.shape() != wanted) {
      refuse_shape(dataset, hdf5::to_string(wanted));
    }
  }

 private:
  const hdf5::File& file_;
  std::int64_t version_;
  std::map<Dimension, std::int64_t> lengths_;  ///< as in the first dataset that has them
};

void check_datasets(const hdf5::File& file) {
  DatasetCheck check(file);
  for (const DatasetRow& row : kDatasetRows) {
    const auto dtype = dtype_of(row.element);
    const bool is_output = row.presence == Presence::with_output;
    if (dtype || (row.element == Element::own && !is_output)) {
      check.check(row, dtype);
    }
  }
  if (!file.exists(path::kOutput)) {
    return;
  }
  for (const auto& name : file.children(path::kOutput)) {
    const auto output = open_numbers(file, std::string(path::kOutput) + "/" + name);
    if (output.shape().size() != 2) {
      refuse_shape(output, "2 dimensions");
    }
  }
}

}  // namespace

hdf5::File open_for_reading(const std::filesystem::path& path) {
  if (!path_exists(path)) {
    throw InputError(path.string() + ": no such file");
  }
  const std::string name = path.string();
  const InputFile regular(name, "a rank file");  // HDF5 would wait for a pipe's writer
  const DamageGuard guard(name);
  try {
    return hdf5::File::open(name, hdf5::Access::read);
  } catch (const hdf5::Hdf5Error& error) {
    const std::string reason = error.what();
    const bool cut = reason.find("truncated file") != std::string::npos;
    throw InputError(
        name + ": " +
        (cut ? "the file is cut: it is shorter than it says" : "not a readable HDF5 file") + " (" +
        reason.substr(std::min(reason.size(), name.size() + 2)) + ")");
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
  return as_input_error(where, [&] {
    if (!file.exists(dataset)) {
      throw InputError(where + ": no such dataset");
    }
    if (file.is_group(dataset)) {
      throw InputError(where + ": is a group, not a dataset");
    }
    auto opened = file.open_dataset(dataset);
    opened.check_stored();
    hdf5::Shape lengths = opened.shape();
    std::replace(lengths.begin(), lengths.end(), std::int64_t{0}, std::int64_t{1});
    if (opened.num_bytes() == 0 && hdf5::num_elements(lengths) > kMaxEmptyElements) {
      throw InputError(where + ": an empty dataset of shape " + hdf5::to_string(opened.shape()));
    }
    return opened;
  });
}

void check_rank_file(const hdf5::File& file) {
  as_input_error(file.path(), [&] {
    file.check_text_heaps();
    check_attributes(file);
    check_datasets(file);
  });
}

}  // namespace dovetail::detail
