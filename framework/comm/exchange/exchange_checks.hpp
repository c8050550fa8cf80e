// What every back end refuses: impossible shapes and tensors that are not as the contract says.
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail {

/// Throws ContractError for a shape that no exchange can be made for.
void check_shape(const ExchangeShape& shape);

/// Whether plans of one serve the other: all of the shape but dtype, hidden and ubatches.
bool same_grid(const ExchangeShape& a, const ExchangeShape& b);

/// Throws ContractError that names the tensor unless it is contiguous and as said. sizes: 2-D.
void check_tensor(const at::Tensor& tensor,
                  at::IntArrayRef sizes,
                  at::ScalarType dtype,
                  at::DeviceType device,
                  const char* name);

/// check_tensor of what prepare is given. Returns the number of tokens.
std::int64_t check_tokens(const RoutedTokens& tokens,
                          const ExchangeShape& shape,
                          at::DeviceType device);

}  // namespace dovetail
