#include "tests/unit/models/row_check.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

/// Batches of 1 to 70 rows, one behind another.
at::Tensor in_batches(const RowOperation& operation,
                      const at::Tensor& rows,
                      std::mt19937_64& random) {
  std::vector<at::Tensor> results;
  for (std::int64_t row = 0; row < rows.size(0);) {
    const auto wanted = static_cast<std::int64_t>(random() % 70 + 1);
    const std::int64_t count = std::min(rows.size(0) - row, wanted);
    results.push_back(operation(rows.narrow(0, row, count)));
    row += count;
  }
  return at::cat(results);
}

/// All rows in another order, put back.
at::Tensor shuffled(const RowOperation& operation,
                    const at::Tensor& rows,
                    std::mt19937_64& random) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows.size(0)));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  const at::Tensor places = at::tensor(order, at::kLong);
  const at::Tensor result = operation(at::index_select(rows, 0, places));
  at::Tensor back = result.clone();
  return back.index_copy_(0, places, result);
}

}  // namespace

std::int64_t count_different_bits(const at::Tensor& a, const at::Tensor& b) {
  DOVETAIL_CHECK(a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type(), "other tensors");
  const auto bits = a.element_size() == 2   ? at::kShort
                    : a.element_size() == 4 ? at::kInt
                                            : at::kLong;
  return (a.contiguous().view(bits) != b.contiguous().view(bits)).sum().item<std::int64_t>();
}

std::int64_t count_changed_bits(const RowOperation& operation,
                                const at::Tensor& rows,
                                std::mt19937_64& random) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor expected = operation(rows);
  std::int64_t changed = 0;
  for (const int count : {1, 2, 3, 8}) {
    at::set_num_threads(count);
    changed += count_different_bits(operation(rows), expected);
    changed += count_different_bits(in_batches(operation, rows, random), expected);
    changed += count_different_bits(shuffled(operation, rows, random), expected);
    const auto row = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(rows.size(0)));
    changed += count_different_bits(operation(rows.narrow(0, row, 1)), expected.narrow(0, row, 1));
  }
  at::set_num_threads(threads);
  return changed;
}

}  // namespace dovetail
