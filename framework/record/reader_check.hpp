// The checks that a rank file passes before anything is read from it: private to the reader.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "framework/base/error.hpp"
#include "framework/record/hdf5.hpp"

namespace dovetail::detail {

/// Runs `work`; a failure of HDF5 is one of the file that is read, so of the input.
template <class Work>
auto as_input_error(Work&& work) {
  try {
    return work();
  } catch (const hdf5::Hdf5Error& error) {
    throw InputError(error.what());
  }
}

/// InputError that tells a missing, a cut and a foreign file apart.
hdf5::File open_for_reading(const std::filesystem::path& path);

/// InputError where the attribute is missing or of another kind.
std::string text_of(const hdf5::File& file, const std::string& object, const std::string& name);
std::int64_t integer_of(const hdf5::File& file, const std::string& object, const std::string& name);

/// InputError unless the dataset exists with one of our element types.
hdf5::Dataset open_numbers(const hdf5::File& file, const std::string& dataset);

/// InputError unless schema version, required attributes, and types and shapes of the datasets are
/// as schema.hpp says.
void check_rank_file(const hdf5::File& file);

}  // namespace dovetail::detail
