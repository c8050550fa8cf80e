#include "framework/step/torch_dtype.hpp"

#include <array>
#include <utility>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 7> kPairs = {{
    {DType::float32, at::kFloat},
    {DType::float16, at::kHalf},
    {DType::bfloat16, at::kBFloat16},
    {DType::float64, at::kDouble},
    {DType::int32, at::kInt},
    {DType::int64, at::kLong},
    {DType::uint8, at::kByte},
}};

}  // namespace

at::ScalarType to_torch(DType dtype) {
  return kPairs.at(static_cast<std::size_t>(dtype)).second;
}

DType from_torch(at::ScalarType dtype) {
  for (const auto& [ours, theirs] : kPairs) {
    if (theirs == dtype) {
      return ours;
    }
  }
  detail::fail_check(__FILE__, __LINE__, "known element type", c10::toString(dtype));
}

}  // namespace dovetail
