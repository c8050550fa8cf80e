#include "models/weights/convert.hpp"

#include <cstring>
#include <string>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// float32 holds every value of the two 16-bit types, so that all ways lead through it with one
// rounding.
template <class From, class To>
void convert(const std::byte* source, std::byte* destination, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, source + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    const To converted = static_cast<To>(static_cast<float>(value));
    std::memcpy(destination + i * static_cast<std::int64_t>(sizeof(To)), &converted, sizeof(To));
  }
}

[[noreturn]] void refuse(DType dtype) {
  throw ContractError("no conversion of weights from or to " + std::string(to_string(dtype)));
}

template <class From>
void convert_from(const std::byte* source, std::byte* destination, DType to, std::int64_t count) {
  switch (to) {
    case DType::float32:
      return convert<From, float>(source, destination, count);
    case DType::float16:
      return convert<From, c10::Half>(source, destination, count);
    case DType::bfloat16:
      return convert<From, c10::BFloat16>(source, destination, count);
    default:
      refuse(to);
  }
}

}  // namespace

void convert_elements(
    const std::byte* source, DType from, std::byte* destination, DType to, std::int64_t count) {
  if (count == 0) {
    return;
  }
  switch (from) {
    case DType::float32:
    case DType::float16:
    case DType::bfloat16:
      break;
    default:
      refuse(from);
  }
  if (from == to) {
    std::memcpy(destination, source, static_cast<std::size_t>(count) * size_of(from));
    return;
  }
  if (from == DType::float32) {
    convert_from<float>(source, destination, to, count);
  } else if (from == DType::float16) {
    convert_from<c10::Half>(source, destination, to, count);
  } else {
    convert_from<c10::BFloat16>(source, destination, to, count);
  }
}

}  // namespace dovetail
