// Element conversion between what lies on disk and what a model computes with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "framework/base/types.hpp"

namespace dovetail {

/// Converts `count` elements. Types: float32, float16, bfloat16 (ContractError for others). Neither
/// side needs to be aligned; they must not overlap. Equal types are copied bit by bit; narrowing
/// rounds once, to nearest, ties to even; a NaN stays a NaN.
void convert_elements(
    const std::byte* source, DType from, std::byte* destination, DType to, std::int64_t count);

}  // namespace dovetail
