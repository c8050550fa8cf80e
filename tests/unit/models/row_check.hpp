// Whether an operation on rows is one on each row: the bits of a row in other companies.
#pragma once

#include <cstdint>
#include <functional>
#include <random>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// rows [R, ...] -> [R, ...].
using RowOperation = std::function<at::Tensor(const at::Tensor& rows)>;

/// Elements of operation(rows) whose bits change when a row is computed alone, in batches cut at
/// random places, among other rows, at another place, or by another number of threads (1 to 8).
/// Restores the number of threads.
std::int64_t count_changed_bits(const RowOperation& operation,
                                const at::Tensor& rows,
                                std::mt19937_64& random);

/// Elements that differ in bits.
std::int64_t count_different_bits(const at::Tensor& a, const at::Tensor& b);

}  // namespace dovetail
