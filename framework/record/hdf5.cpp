#include "framework/record/hdf5.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "framework/base/check.hpp"
#include "framework/record/hdf5_check.hpp"

namespace dovetail::hdf5 {
namespace {

constexpr std::array kAllDTypes = {DType::float32,
                                   DType::float16,
                                   DType::bfloat16,
                                   DType::float64,
                                   DType::int32,
                                   DType::int64,
                                   DType::uint8};

/// The most bytes that deflate makes of one.
constexpr hsize_t kMaxCompression = 1032;

extern "C" herr_t dovetail_append_hdf5_error(unsigned /*depth*/,
                                             const H5E_error2_t* error,
                                             void* text) {
  // No exception may pass through the C library.
  try {
    auto& all = *static_cast<std::string*>(text);
    if (error->desc != nullptr && all.find(error->desc) == std::string::npos) {
      all += (all.empty() ? "" : "; ") + std::string(error->desc);
    }
  } catch (...) {
    return -1;
  }
  return 0;
}

std::string version_text(unsigned major, unsigned minor, unsigned release) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

template <class T>
std::vector<std::byte> bytes_of(T value) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::vector<hsize_t> to_hsize(const Shape& shape) {
  return {shape.begin(), shape.end()};
}

}  // namespace

namespace detail {

void silence_errors() {
  // At the end of the process HDF5 would close what is open once more, and crashes over a file that
  // it could not close because the disk is full. We close all files ourselves.
  static const herr_t no_work_at_exit = H5dont_atexit();
  static_cast<void>(no_work_at_exit);
  thread_local const herr_t done = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  static_cast<void>(done);
}

void fail(const std::string& where, const char* call) {
  std::string reason;
  static_cast<void>(H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, &dovetail_append_hdf5_error, &reason));
  // Of a write that the system refuses HDF5 lists addresses and sizes, too.
  constexpr std::string_view of_system = "error message = '";
  if (const auto at = reason.find(of_system);
      at != std::string::npos && reason.find("write failed") != std::string::npos) {
    reason = reason.substr(at + of_system.size());
    reason = reason.substr(0, reason.find('\''));
  }
  throw Hdf5Error(where + ": " + call + ": " + (reason.empty() ? "failed" : reason));
}

Space make_space(const Shape& shape, const std::string& where) {
  if (shape.empty()) {
    return Space(DOVETAIL_HDF5(where, H5Screate, H5S_SCALAR));
  }
  const auto lengths = to_hsize(shape);
  return Space(DOVETAIL_HDF5(
      where, H5Screate_simple, static_cast<int>(lengths.size()), lengths.data(), nullptr));
}

std::optional<DType> dtype_of(hid_t type) {
  for (const DType dtype : kAllDTypes) {
    if (DOVETAIL_HDF5("element type", H5Tequal, type, make_type(dtype).get()) > 0) {
      return dtype;
    }
  }
  return std::nullopt;
}

void check_stored(hid_t dataset, hsize_t num_bytes, const std::string& where) {
  const Handle<H5Fclose> file(DOVETAIL_HDF5(where, H5Iget_file_id, dataset));
  hsize_t file_bytes = 0;
  DOVETAIL_HDF5(where, H5Fget_filesize, file.get(), &file_bytes);
  const Handle<H5Pclose> creation(DOVETAIL_HDF5(where, H5Dget_create_plist, dataset));
  const bool compressible =
      DOVETAIL_HDF5(where, H5Pget_layout, creation.get()) == H5D_CHUNKED;  // by others: h5repack
  const hsize_t stored = std::min(H5Dget_storage_size(dataset), file_bytes);
  if (num_bytes > saturating_product<hsize_t>(stored, compressible ? kMaxCompression : 1)) {
    throw Hdf5Error(where + ": its shape asks for " + std::to_string(num_bytes) +
                    " bytes, but the file holds " + std::to_string(stored) + " of it");
  }
}

}  // namespace detail

std::int64_t num_elements(const Shape& shape) {
  std::int64_t product = 1;
  for (const auto length : shape) {
    product = detail::saturating_product(product, length);
  }
  return product;
}

std::string to_string(const Shape& shape) {
  std::string text;
  for (const auto length : shape) {
    text += (text.empty() ? "" : ", ") + std::to_string(length);
  }
  return "[" + text + "]";
}

std::string compiled_version() {
  return version_text(H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
}

std::string loaded_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  DOVETAIL_HDF5("HDF5", H5get_libversion, &major, &minor, &release);
  return version_text(major, minor, release);
}

std::vector<std::byte> fill_value(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return bytes_of(std::numeric_limits<float>::quiet_NaN());
    case DType::float64:
      return bytes_of(std::numeric_limits<double>::quiet_NaN());
    case DType::float16:
      return bytes_of(std::uint16_t{0x7e00});
    case DType::bfloat16:
      return bytes_of(std::uint16_t{0x7fc0});
    case DType::int32:
      return bytes_of(std::int32_t{-1});
    case DType::int64:
      return bytes_of(std::int64_t{-1});
    case DType::uint8:
      return bytes_of(std::uint8_t{255});
  }
  throw ContractError("fill_value: unknown dtype");
}

Type make_type(DType dtype) {
  const std::string where = "element type " + std::string(dovetail::to_string(dtype));
  const auto copy = [&where](hid_t type) { return Type(DOVETAIL_HDF5(where, H5Tcopy, type)); };
  switch (dtype) {
    case DType::float32:
      return copy(H5T_IEEE_F32LE);
    case DType::float64:
      return copy(H5T_IEEE_F64LE);
    case DType::int32:
      return copy(H5T_STD_I32LE);
    case DType::int64:
      return copy(H5T_STD_I64LE);
    case DType::uint8:
      return copy(H5T_STD_U8LE);
    case DType::float16:
    case DType::bfloat16:
      break;
  }
  const std::size_t exponent_bits = dtype == DType::float16 ? 5 : 8;
  const std::size_t mantissa_bits = 15 - exponent_bits;
  const std::size_t bias = dtype == DType::float16 ? 15 : 127;
  Type type = copy(H5T_IEEE_F32LE);
  DOVETAIL_HDF5(
      where, H5Tset_fields, type.get(), 15, mantissa_bits, exponent_bits, 0, mantissa_bits);
  DOVETAIL_HDF5(where, H5Tset_size, type.get(), 2);
  DOVETAIL_HDF5(where, H5Tset_ebias, type.get(), bias);
  return type;
}

Dataset::Dataset(std::string name, Handle<H5Dclose> handle, Shape shape, DType dtype)
    : name_(std::move(name)),
      handle_(std::move(handle)),
      type_(make_type(dtype)),
      space_(detail::make_space(shape, name_)),
      shape_(std::move(shape)),
      dtype_(dtype) {}

void Dataset::check_stored() const {
  detail::check_stored(handle_.get(), static_cast<hsize_t>(num_bytes()), name_);
}

void Dataset::read(std::span<std::byte> bytes) const {
  DOVETAIL_CHECK_EQ(static_cast<std::int64_t>(bytes.size()), num_bytes());
  if (!bytes.empty()) {
    DOVETAIL_HDF5(
        name_, H5Dread, handle_.get(), type_.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data());
  }
}

void Dataset::write(std::span<const std::byte> bytes) {
  DOVETAIL_CHECK_EQ(static_cast<std::int64_t>(bytes.size()), num_bytes());
  if (!bytes.empty()) {
    DOVETAIL_HDF5(
        name_, H5Dwrite, handle_.get(), type_.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data());
  }
}

Space Dataset::select(const Shape& start, const Shape& count, std::size_t num_bytes) const {
  const auto check = [&](bool good) {
    DOVETAIL_CHECK(good,
                   name_ + " " + to_string(shape_) + ": box of " + to_string(count) + " at " +
                       to_string(start) + ", " + std::to_string(num_bytes) + " bytes");
  };
  check(!shape_.empty() && start.size() == shape_.size() && count.size() == shape_.size());
  for (std::size_t i = 0; i < shape_.size(); ++i) {
    check(start[i] >= 0 && count[i] >= 0 && start[i] <= shape_[i] &&
          count[i] <= shape_[i] - start[i]);
  }
  const std::int64_t elements = num_elements(count);
  check(elements * static_cast<std::int64_t>(size_of(dtype_)) ==
        static_cast<std::int64_t>(num_bytes));
  if (elements == 0) {
    return {};
  }
  DOVETAIL_HDF5(name_,
                H5Sselect_hyperslab,
                space_.get(),
                H5S_SELECT_SET,
                to_hsize(start).data(),
                nullptr,
                to_hsize(count).data(),
                nullptr);
  return detail::make_space({elements}, name_);
}

void Dataset::read_box(const Shape& start, const Shape& count, std::span<std::byte> bytes) const {
  if (const Space memory = select(start, count, bytes.size())) {
    DOVETAIL_HDF5(name_,
                  H5Dread,
                  handle_.get(),
                  type_.get(),
                  memory.get(),
                  space_.get(),
                  H5P_DEFAULT,
                  bytes.data());
  }
}

void Dataset::write_box(const Shape& start, const Shape& count, std::span<const std::byte> bytes) {
  if (const Space memory = select(start, count, bytes.size())) {
    DOVETAIL_HDF5(name_,
                  H5Dwrite,
                  handle_.get(),
                  type_.get(),
                  memory.get(),
                  space_.get(),
                  H5P_DEFAULT,
                  bytes.data());
  }
}

}  // namespace dovetail::hdf5
