#include "models/weights/safetensors.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;

// Header object, tensor object, shape list.
constexpr int kHeaderDepth = 3;

struct StoredType {
  std::string_view name;
  unsigned bits;
};

// Element types of the format; most of them cannot be read, but their sizes are checked.
constexpr std::array kStoredTypes = std::to_array<StoredType>({
    {"F32", 32},    {"F16", 16},        {"BF16", 16},       {"BOOL", 8},    {"U8", 8},
    {"I8", 8},      {"U16", 16},        {"I16", 16},        {"U32", 32},    {"I32", 32},
    {"U64", 64},    {"I64", 64},        {"F64", 64},        {"C64", 64},    {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"F4", 4},
});

constexpr std::string_view kReadable =
    "types that can be read: F32, F16, BF16, and F8_E4M3 of matrices beside which lie their "
    "factors, '<name>_scale_inv'";

/// Throws errors that name the file, and the tensor where there is one.
struct Place {
  const std::string& path;
  std::string tensor;

  [[noreturn]] void fail(const std::string& message) const {
    throw InputError(path, 0, 0, tensor.empty() ? message : quoted_tensor(tensor) + ": " + message);
  }
};

std::uint64_t unsigned_number(const json& value, const std::string& what, const Place& place) {
  if (!value.is_number_unsigned()) {
    place.fail(what + " is " + printable_json(value) +
               "; allowed: an integer from 0 to 2^64-1, written without point or exponent");
  }
  return value.get<std::uint64_t>();
}

std::vector<std::int64_t> parse_shape(const json& value, const Place& place) {
  if (!value.is_array()) {
    place.fail("shape is " + printable_json(value) + "; allowed: a list of integers");
  }
  std::vector<std::int64_t> shape;
  shape.reserve(value.size());
  for (const json& size : value) {
    const std::uint64_t number = unsigned_number(size, "a size in shape", place);
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      place.fail("a size in shape is " + std::to_string(number) + "; allowed: at most 2^63-1");
    }
    shape.push_back(static_cast<std::int64_t>(number));
  }
  return shape;
}

/// Bytes that a tensor must have; none where its dtype is newer than this table. Such a tensor
/// cannot be read, and what nobody reads does not matter.
std::optional<std::uint64_t> bytes_of(const StoredTensor& tensor, const Place& place) {
  const auto* const type = std::find_if(kStoredTypes.begin(),
                                        kStoredTypes.end(),
                                        [&](const auto& t) { return t.name == tensor.dtype; });
  if (type == kStoredTypes.end()) {
    return std::nullopt;
  }
  std::uint64_t bits = type->bits;
  for (const std::int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(size), &bits)) {
      place.fail("shape " + format_shape(tensor.shape) + " has more than 2^64 bits");
    }
  }
  if (bits % 8 != 0) {
    place.fail("shape " + format_shape(tensor.shape) + " of " + tensor.dtype +
               " is not a whole number of bytes");
  }
  return bits / 8;
}

StoredTensor parse_tensor(const json& value, std::uint64_t data_bytes, const Place& place) {
  if (!value.is_object()) {
    place.fail("is not an object with dtype, shape and data_offsets");
  }
  for (const auto& item : value.items()) {
    if (item.key() != "dtype" && item.key() != "shape" && item.key() != "data_offsets") {
      place.fail("unknown key '" + printable(item.key()) +
                 "'; allowed: dtype, shape, data_offsets");
    }
  }
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(key)) {
      place.fail(std::string("has no ") + key + "; needed: dtype, shape, data_offsets");
    }
  }
  StoredTensor tensor;
  if (!value["dtype"].is_string()) {
    place.fail("dtype is " + printable_json(value["dtype"]) + "; allowed: a string");
  }
  tensor.dtype = value["dtype"].get<std::string>();
  tensor.shape = parse_shape(value["shape"], place);
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) {
    place.fail("data_offsets is " + printable_json(offsets) + "; allowed: [begin, end]");
  }
  tensor.begin = unsigned_number(offsets[0], "data_offsets[0]", place);
  tensor.end = unsigned_number(offsets[1], "data_offsets[1]", place);
  const std::string range =
      "data_offsets [" + std::to_string(tensor.begin) + ", " + std::to_string(tensor.end) + "]";
  if (tensor.begin > tensor.end) {
    place.fail(range + " end before they begin");
  }
  const auto bytes = bytes_of(tensor, place);
  if (bytes && tensor.end - tensor.begin != *bytes) {
    place.fail(range + " hold " + std::to_string(tensor.end - tensor.begin) + " bytes, but shape " +
               format_shape(tensor.shape) + " of " + tensor.dtype + " needs " +
               std::to_string(*bytes));
  }
  if (tensor.end > data_bytes) {
    place.fail(range + " reach beyond the data part of " + std::to_string(data_bytes) +
               " bytes; is the file truncated?");
  }
  return tensor;
}

void check_metadata(const json& value, const Place& place) {
  if (value.is_null()) {
    return;
  }
  if (!value.is_object()) {
    place.fail("__metadata__ is not an object; allowed: an object of strings");
  }
  for (const auto& item : value.items()) {
    if (!item.value().is_string()) {
      place.fail("__metadata__ key '" + printable(item.key()) + "' is " +
                 printable_json(item.value()) + "; allowed: a string");
    }
  }
}

/// The tensors must fill the data part from its first byte to its last, each byte once.
void check_coverage(const SafetensorsHeader& header,
                    std::uint64_t data_bytes,
                    const std::string& path) {
  using Item = const std::pair<const std::string, StoredTensor>*;
  std::vector<Item> order;
  order.reserve(header.tensors.size());
  for (const auto& item : header.tensors) {
    order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](Item a, Item b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t position = 0;
  std::string before = "the start of the data part";
  for (const Item item : order) {
    const StoredTensor& tensor = item->second;
    const Place place{path, item->first};
    if (tensor.begin < position) {
      place.fail("data_offsets [" + std::to_string(tensor.begin) + ", " +
                 std::to_string(tensor.end) + "] overlap " + before + ", which ends at " +
                 std::to_string(position));
    }
    if (tensor.begin > position) {
      place.fail("begins at " + std::to_string(tensor.begin) + ", but " + before + " ends at " +
                 std::to_string(position) + ": the format allows no hole");
    }
    position = tensor.end;
    before = quoted_tensor(item->first);
  }
  if (position != data_bytes) {
    Place{path, {}}.fail("the data part has " + std::to_string(data_bytes) +
                         " bytes, but its tensors end at " + std::to_string(position) +
                         ": the format allows no bytes that belong to no tensor");
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& path) {
  const Place place{path, {}};
  if (file.size() < kLengthBytes) {
    place.fail("has " + std::to_string(file.size()) +
               " bytes; a safetensors file begins with 8 bytes of header length");
  }
  std::uint64_t header_bytes = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    place.fail("header length at offset 0 is " + std::to_string(header_bytes) +
               "; the format allows at most " + std::to_string(kMaxSafetensorsHeaderBytes));
  }
  if (header_bytes > file.size() - kLengthBytes) {
    place.fail("header length at offset 0 is " + std::to_string(header_bytes) + ", but only " +
               std::to_string(file.size() - kLengthBytes) +
               " bytes follow; is the file truncated?");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                              static_cast<std::size_t>(header_bytes));
  if (text.empty() || text.front() != '{') {
    place.fail("the header at offset 8 does not begin with '{'");
  }
  const json parsed =
      parse_strict_json(text, {.file = path + ": header", .max_depth = kHeaderDepth});

  SafetensorsHeader header;
  header.data_start = kLengthBytes + header_bytes;
  const std::uint64_t data_bytes = file.size() - header.data_start;
  for (const auto& item : parsed.items()) {
    if (item.key() == "__metadata__") {
      check_metadata(item.value(), place);
    } else {
      header.tensors.emplace(item.key(),
                             parse_tensor(item.value(), data_bytes, Place{path, item.key()}));
    }
  }
  check_coverage(header, data_bytes, path);
  return header;
}

DType readable_dtype(const StoredTensor& tensor, const std::string& name, const std::string& path) {
  if (tensor.dtype == "F32") {
    return DType::float32;
  }
  if (tensor.dtype == "F16") {
    return DType::float16;
  }
  if (tensor.dtype == "BF16") {
    return DType::bfloat16;
  }
  throw InputError(path,
                   0,
                   0,
                   quoted_tensor(name) + ": dtype " + printable(tensor.dtype) +
                       " cannot be read; " + std::string(kReadable));
}

SafetensorsFile::SafetensorsFile(std::string path)
    : file_(std::move(path)), header_(parse_safetensors(file_.bytes(), file_.path())) {
  file_.release(file_.bytes().first(static_cast<std::size_t>(header_.data_start)));
}

std::span<const std::byte> SafetensorsFile::data(const StoredTensor& tensor) const {
  return file_.bytes().subspan(static_cast<std::size_t>(header_.data_start + tensor.begin),
                               static_cast<std::size_t>(tensor.end - tensor.begin));
}

std::string quoted_tensor(const std::string& name) {
  return "tensor '" + printable(name, kMaxLongQuoteBytes) + "'";
}

std::string format_shape(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace dovetail
