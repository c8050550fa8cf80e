// The check of every HDF5 call: private to the layer (hdf5*.cpp).
#pragma once

#include <string>

#include "framework/record/hdf5.hpp"

namespace dovetail::hdf5::detail {

/// Turns off HDF5's own printing of errors in this thread; the library keeps that per thread.
void silence_errors();

[[noreturn]] void fail(const std::string& where, const char* call);

template <class Result>
Result check(Result result, const char* call, const std::string& where) {
  if (result < 0) {
    fail(where, call);
  }
  return result;
}

Space make_space(const Shape& shape, const std::string& where);

/// Our element type that equals an HDF5 type; nothing where there is none.
std::optional<DType> dtype_of(hid_t type);

/// UTF-8 text of `capacity` bytes, padded with NUL; H5T_VARIABLE for any length.
Type text_type(std::size_t capacity, const std::string& where);

/// The text in a field of `capacity` bytes: up to the first NUL.
std::string unpadded(const char* bytes, std::size_t capacity);

/// What HDF5 allocated for a variable-length text.
struct HdfMemory {
  char* text = nullptr;

  HdfMemory() = default;
  HdfMemory(const HdfMemory&) = delete;
  HdfMemory& operator=(const HdfMemory&) = delete;
  HdfMemory(HdfMemory&&) = delete;
  HdfMemory& operator=(HdfMemory&&) = delete;

  ~HdfMemory() { static_cast<void>(H5free_memory(text)); }

  std::string take() const { return text == nullptr ? "" : text; }
};

}  // namespace dovetail::hdf5::detail

/// Calls `function(...)` and throws Hdf5Error with `where` and HDF5's reason if it fails.
#define DOVETAIL_HDF5(where, function, ...)    \
  (::dovetail::hdf5::detail::silence_errors(), \
   ::dovetail::hdf5::detail::check(function(__VA_ARGS__), #function, (where)))
