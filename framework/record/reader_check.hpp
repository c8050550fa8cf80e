// The checks that a rank file passes before anything is read from it: private to the reader.
#pragma once

#include <cstdint>
#include <filesystem>
#include <new>
#include <string>

#include "framework/base/error.hpp"
#include "framework/record/damage_guard.hpp"
#include "framework/record/hdf5.hpp"

namespace dovetail::detail {

/// Runs `work`, which reads `where` ("<file>: <object>"). What fails in it is the input's fault: an
/// error of HDF5, or more than fits into memory; a crash ends the process (damage_guard.hpp).
template <class Work>
auto as_input_error(const std::string& where, Work&& work) {
  const DamageGuard guard(where);
  try {
    return work();
  } catch (const hdf5::Hdf5Error& error) {
    throw InputError(error.what());
  } catch (const std::bad_alloc&) {
    throw InputError(where + ": does not fit into memory");
  }
}

/// InputError that tells a missing, a cut and a foreign file apart.
hdf5::File open_for_reading(const std::filesystem::path& path);

/// InputError where the attribute is missing or of another kind.
std::string text_of(const hdf5::File& file, const std::string& object, const std::string& name);
std::int64_t integer_of(const hdf5::File& file, const std::string& object, const std::string& name);

/// InputError unless the dataset exists with one of our element types, and the file holds what its
/// shape promises: memory for the whole of it may be taken, and each length may be counted up to.
hdf5::Dataset open_numbers(const hdf5::File& file, const std::string& dataset);

/// InputError unless schema version, attributes, and types and shapes of the datasets are as
/// schema_table.hpp says.
void check_rank_file(const hdf5::File& file);

}  // namespace dovetail::detail
