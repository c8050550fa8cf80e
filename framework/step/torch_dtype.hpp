// Element types of Dovetail and of torch.
#pragma once

#include <c10/core/ScalarType.h>

#include "framework/base/types.hpp"

namespace dovetail {

at::ScalarType to_torch(DType dtype);

/// Throws ContractError for torch types that Dovetail does not use.
DType from_torch(at::ScalarType dtype);

}  // namespace dovetail
