// Attributes and text datasets of hdf5::File.
#include <algorithm>
#include <cstring>

#include <nlohmann/json.hpp>

#include "framework/base/check.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/hdf5_check.hpp"

namespace dovetail::hdf5 {
namespace detail {

Type text_type(std::size_t capacity, const std::string& where) {
  Type type(DOVETAIL_HDF5(where, H5Tcopy, H5T_C_S1));
  DOVETAIL_HDF5(where, H5Tset_size, type.get(), capacity);
  DOVETAIL_HDF5(where, H5Tset_cset, type.get(), H5T_CSET_UTF8);
  if (capacity != H5T_VARIABLE) {
    DOVETAIL_HDF5(where, H5Tset_strpad, type.get(), H5T_STR_NULLPAD);
  }
  return type;
}

std::string as_utf8(std::string text) {
  const auto is_ascii = [](char byte) { return static_cast<unsigned char>(byte) < 0x80U; };
  if (std::all_of(text.begin(), text.end(), is_ascii)) {
    return text;
  }
  using Json = nlohmann::json;
  return Json::parse(Json(std::move(text)).dump(-1, ' ', false, Json::error_handler_t::replace))
      .get<std::string>();
}

std::string unpadded(const char* bytes, std::size_t capacity) {
  return as_utf8({bytes, std::find(bytes, bytes + capacity, '\0')});
}

}  // namespace detail

namespace {

using detail::HdfMemory;
using detail::text_type;
using detail::unpadded;
using AttributeHandle = Handle<H5Aclose>;
using DatasetHandle = Handle<H5Dclose>;

/// The longest fixed-length text of an attribute that is read; ours have at most 1024 bytes.
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 20U;

/// `text` in `capacity` bytes: cut between two UTF-8 characters, padded with NUL.
std::string padded(const std::string& text, std::size_t capacity) {
  std::size_t end = std::min(text.size(), capacity);
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) {
    --end;
  }
  std::string bytes = text.substr(0, end);
  bytes.resize(capacity, '\0');
  return bytes;
}

/// An attribute with its object, which stays open as long: HDF5 1.10.8 cannot write an attribute
/// that was opened by the name of an object that is closed.
struct OpenAttribute {
  Handle<H5Oclose> object;
  AttributeHandle handle;
};

OpenAttribute open_attribute(hid_t file,
                             const std::string& object,
                             const std::string& name,
                             const std::string& where) {
  OpenAttribute opened;
  opened.object =
      Handle<H5Oclose>(DOVETAIL_HDF5(where, H5Oopen, file, object.c_str(), H5P_DEFAULT));
  opened.handle = AttributeHandle(
      DOVETAIL_HDF5(where, H5Aopen, opened.object.get(), name.c_str(), H5P_DEFAULT));
  return opened;
}

/// Creates a scalar attribute and writes it from `value`, which is laid out as `type` says.
void write_new_attribute(hid_t file,
                         const std::string& object,
                         const std::string& name,
                         const Type& type,
                         const void* value,
                         const std::string& where) {
  const auto space = detail::make_space({}, where);
  const AttributeHandle handle(DOVETAIL_HDF5(where,
                                             H5Acreate_by_name,
                                             file,
                                             object.c_str(),
                                             name.c_str(),
                                             type.get(),
                                             space.get(),
                                             H5P_DEFAULT,
                                             H5P_DEFAULT,
                                             H5P_DEFAULT));
  DOVETAIL_HDF5(where, H5Awrite, handle.get(), type.get(), value);
}

bool is_scalar(const AttributeHandle& attribute, const std::string& where) {
  const Space space(DOVETAIL_HDF5(where, H5Aget_space, attribute.get()));
  return DOVETAIL_HDF5(where, H5Sget_simple_extent_npoints, space.get()) == 1;
}

std::string read_text_attribute(const AttributeHandle& attribute,
                                const Type& type,
                                const std::string& where) {
  if (DOVETAIL_HDF5(where, H5Tis_variable_str, type.get()) > 0) {
    HdfMemory memory;
    DOVETAIL_HDF5(where, H5Aread, attribute.get(), type.get(), &memory.text);
    return memory.take();
  }
  const std::size_t capacity = H5Tget_size(type.get());
  if (capacity > kMaxTextBytes) {
    throw Hdf5Error(where + ": a text of " + std::to_string(capacity) +
                    " bytes; allowed: " + std::to_string(kMaxTextBytes));
  }
  std::string bytes(capacity, '\0');
  DOVETAIL_HDF5(where, H5Aread, attribute.get(), type.get(), bytes.data());
  return unpadded(bytes.data(), bytes.size());
}

/// The value of a scalar text or number attribute; nothing for any other.
std::optional<AttributeValue> read_value(const AttributeHandle& attribute,
                                         const std::string& where) {
  const Type type(DOVETAIL_HDF5(where, H5Aget_type, attribute.get()));
  if (!is_scalar(attribute, where)) {
    return std::nullopt;
  }
  switch (H5Tget_class(type.get())) {
    case H5T_STRING:
      return read_text_attribute(attribute, type, where);
    case H5T_INTEGER: {
      std::int64_t value = 0;
      DOVETAIL_HDF5(where, H5Aread, attribute.get(), H5T_NATIVE_INT64, &value);
      return value;
    }
    case H5T_FLOAT: {
      double value = 0;
      DOVETAIL_HDF5(where, H5Aread, attribute.get(), H5T_NATIVE_DOUBLE, &value);
      return value;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

void File::write_text(const std::string& path, const std::string& text) {
  const std::string where = path_ + ": " + path;
  const Type type = text_type(H5T_VARIABLE, where);
  const auto space = detail::make_space({}, where);
  const DatasetHandle handle(DOVETAIL_HDF5(where,
                                           H5Dcreate2,
                                           handle_.get(),
                                           path.c_str(),
                                           type.get(),
                                           space.get(),
                                           H5P_DEFAULT,
                                           H5P_DEFAULT,
                                           H5P_DEFAULT));
  const char* bytes = text.c_str();
  DOVETAIL_HDF5(where, H5Dwrite, handle.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &bytes);
}

std::string File::read_text(const std::string& path) const {
  const std::string where = path_ + ": " + path;
  const DatasetHandle handle(
      DOVETAIL_HDF5(where, H5Dopen2, handle_.get(), path.c_str(), H5P_DEFAULT));
  const Type type(DOVETAIL_HDF5(where, H5Dget_type, handle.get()));
  const Space space(DOVETAIL_HDF5(where, H5Dget_space, handle.get()));
  if (H5Tget_class(type.get()) != H5T_STRING ||
      DOVETAIL_HDF5(where, H5Tis_variable_str, type.get()) == 0 ||
      DOVETAIL_HDF5(where, H5Sget_simple_extent_npoints, space.get()) != 1) {
    throw Hdf5Error(where + ": not a scalar variable-length text");
  }
  HdfMemory memory;
  DOVETAIL_HDF5(
      where, H5Dread, handle.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &memory.text);
  return memory.take();
}

void File::create_attribute(const std::string& object, const Attribute& attribute) {
  const std::string where = path_ + ": " + object + "@" + attribute.name;
  const auto write = [&](const Type& type, const void* value) {
    write_new_attribute(handle_.get(), object, attribute.name, type, value, where);
  };
  if (const auto* text = std::get_if<std::string>(&attribute.value)) {
    const char* bytes = text->c_str();
    write(text_type(H5T_VARIABLE, where), &bytes);
  } else if (const auto* integer = std::get_if<std::int64_t>(&attribute.value)) {
    write(make_type(DType::int64), integer);
  } else {
    write(make_type(DType::float64), &std::get<double>(attribute.value));
  }
}

void File::create_fixed_text(const std::string& object,
                             const std::string& name,
                             std::size_t capacity,
                             const std::string& text) {
  const std::string where = path_ + ": " + object + "@" + name;
  const auto bytes = padded(text, capacity);
  write_new_attribute(handle_.get(), object, name, text_type(capacity, where), bytes.data(), where);
}

void File::update_attribute(const std::string& object, const Attribute& attribute) {
  const std::string where = path_ + ": " + object + "@" + attribute.name;
  const auto opened = open_attribute(handle_.get(), object, attribute.name, where);
  const auto& handle = opened.handle;
  const Type type(DOVETAIL_HDF5(where, H5Aget_type, handle.get()));
  const auto kind = H5Tget_class(type.get());
  if (const auto* text = std::get_if<std::string>(&attribute.value)) {
    DOVETAIL_CHECK(kind == H5T_STRING && H5Tis_variable_str(type.get()) == 0,
                   where + ": only text of fixed length can be changed");
    const auto bytes = padded(*text, H5Tget_size(type.get()));
    DOVETAIL_HDF5(where, H5Awrite, handle.get(), type.get(), bytes.data());
  } else if (const auto* integer = std::get_if<std::int64_t>(&attribute.value)) {
    DOVETAIL_CHECK(kind == H5T_INTEGER, where + ": not an integer");
    DOVETAIL_HDF5(where, H5Awrite, handle.get(), H5T_NATIVE_INT64, integer);
  } else {
    DOVETAIL_CHECK(kind == H5T_FLOAT, where + ": not a floating-point number");
    DOVETAIL_HDF5(
        where, H5Awrite, handle.get(), H5T_NATIVE_DOUBLE, &std::get<double>(attribute.value));
  }
}

bool File::has_attribute(const std::string& object, const std::string& name) const {
  return DOVETAIL_HDF5(path_ + ": " + object + "@" + name,
                       H5Aexists_by_name,
                       handle_.get(),
                       object.c_str(),
                       name.c_str(),
                       H5P_DEFAULT) > 0;
}

AttributeValue File::attribute(const std::string& object, const std::string& name) const {
  const std::string where = path_ + ": " + object + "@" + name;
  auto value = read_value(open_attribute(handle_.get(), object, name, where).handle, where);
  if (!value) {
    throw Hdf5Error(where + ": neither a text nor a number");
  }
  return std::move(*value);
}

std::vector<Attribute> File::attributes(const std::string& object) const {
  const std::string where = path_ + ": " + object;
  H5O_info_t info;
  DOVETAIL_HDF5(where,
                H5Oget_info_by_name2,
                handle_.get(),
                object.c_str(),
                &info,
                H5O_INFO_NUM_ATTRS,
                H5P_DEFAULT);
  std::vector<Attribute> found;
  for (hsize_t i = 0; i < info.num_attrs; ++i) {
    const AttributeHandle handle(DOVETAIL_HDF5(where,
                                               H5Aopen_by_idx,
                                               handle_.get(),
                                               object.c_str(),
                                               H5_INDEX_NAME,
                                               H5_ITER_INC,
                                               i,
                                               H5P_DEFAULT,
                                               H5P_DEFAULT));
    std::string name(
        static_cast<std::size_t>(DOVETAIL_HDF5(where, H5Aget_name, handle.get(), 0, nullptr)),
        '\0');
    DOVETAIL_HDF5(where, H5Aget_name, handle.get(), name.size() + 1, name.data());
    if (auto value = read_value(handle, where)) {
      found.push_back({detail::as_utf8(std::move(name)), std::move(*value)});
    }
  }
  return found;
}

}  // namespace dovetail::hdf5
