#include "framework/base/types.hpp"

namespace dovetail {
namespace {

// In the order of the enumerators of DType.
constexpr std::array<std::size_t, 7> kElementBytes = {4, 2, 2, 8, 4, 8, 1};

}  // namespace

std::size_t size_of(DType dtype) {
  return kElementBytes.at(static_cast<std::size_t>(dtype));
}

}  // namespace dovetail
