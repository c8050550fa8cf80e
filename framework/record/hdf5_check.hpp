// The check of every HDF5 call: private to the layer (hdf5*.cpp).
#pragma once

#include <limits>
#include <string>

#include "framework/base/file_work.hpp"
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

/// Throws Hdf5Error where a dataset takes less of its file than `num_bytes` need.
void check_stored(hid_t dataset, hsize_t num_bytes, const std::string& where);

/// a * b; the largest number where that is more. For sizes that a file claims.
template <class T>
T saturating_product(T a, T b) {
  T product;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<T>::max() : product;
}

/// a + b; likewise.
template <class T>
T saturating_sum(T a, T b) {
  T sum;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<T>::max() : sum;
}

/// UTF-8 text of `capacity` bytes, padded with NUL; H5T_VARIABLE for any length.
Type text_type(std::size_t capacity, const std::string& where);

/// The text with U+FFFD for every byte that is no UTF-8, as reports in JSON can hold it.
std::string as_utf8(std::string text);

/// The text in a field of `capacity` bytes: up to the first NUL, as UTF-8.
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

  /// As UTF-8.
  std::string take() const { return text == nullptr ? "" : as_utf8(text); }
};

}  // namespace dovetail::hdf5::detail

/// Calls `function(...)` and throws Hdf5Error with `where` and HDF5's reason if it fails.
#define DOVETAIL_HDF5(where, function, ...)    \
  (::dovetail::hdf5::detail::silence_errors(), \
   ::dovetail::FileWork((where)),              \
   ::dovetail::hdf5::detail::check(function(__VA_ARGS__), #function, (where)))
