#include "models/layers/products.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_dots.hpp"
#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

/// Of a tile; a matter of caches and of balance between threads, not of bits.
constexpr std::int64_t kTileRows = 128;
constexpr std::int64_t kTileColumns = 48;

/// A part of a result.
struct Tile {
  const RowProduct* product = nullptr;
  std::int64_t row = 0;
  std::int64_t column = 0;
};

at::Tensor in_float(const at::Tensor& x) {
  return x.to(at::kFloat).contiguous();
}

FloatRows rows_of(const at::Tensor& x) {
  return {.data = x.const_data_ptr<float>(), .count = x.size(0), .length = x.size(1)};
}

void compute(const Tile& tile) {
  const RowProduct& product = *tile.product;
  const std::int64_t rows = std::min(kTileRows, product.x.size(0) - tile.row);
  const std::int64_t columns = std::min(kTileColumns, product.weight.size(0) - tile.column);
  const at::Tensor x = product.x.narrow(0, tile.row, rows);
  const at::Tensor weight = in_float(product.weight.narrow(0, tile.column, columns));
  at::Tensor sums = at::empty({rows, columns}, x.options());
  dot_rows(rows_of(x), rows_of(weight), sums.mutable_data_ptr<float>());
  if (product.bias.defined()) {
    sums.add_(product.bias.narrow(0, tile.column, columns));
  }
  product.result.narrow(0, tile.row, rows).narrow(1, tile.column, columns).copy_(sums);
}

void multiply_on_cpu(std::vector<RowProduct>& products) {
  std::vector<Tile> tiles;
  for (RowProduct& product : products) {
    product.x = in_float(product.x);
    for (std::int64_t column = 0; column < product.weight.size(0); column += kTileColumns) {
      for (std::int64_t row = 0; row < product.x.size(0); row += kTileRows) {
        tiles.push_back({.product = &product, .row = row, .column = column});
      }
    }
  }
  for_each_tile(at::kCPU, std::ssize(tiles), [&](std::int64_t i) {
    compute(tiles[static_cast<std::size_t>(i)]);
  });
}

/// In calls of one shape, for which a library has one kernel.
void multiply_on_gpu(const RowProduct& product) {
  if (product.x.size(0) > 0) {
    product.result.copy_(by_row_blocks(product.x, [&](const at::Tensor& block) {
      return linear(block, product.weight, product.bias);
    }));
  }
}

}  // namespace

void multiply_by_rows(std::vector<RowProduct> products) {
  if (products.empty()) {
    return;
  }
  if (products.front().x.is_cpu()) {
    multiply_on_cpu(products);
    return;
  }
  for (const RowProduct& product : products) {
    multiply_on_gpu(product);
  }
}

at::Tensor project(const at::Tensor& x,
                   const at::Tensor& weight,
                   const at::Tensor& bias,
                   Numerics numerics) {
  if (numerics == Numerics::fast) {
    return linear(x, weight, bias);
  }
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(x) && gpu::can_project(x, weight)) {
      return gpu::project(x, weight, bias);
    }
  }
  at::Tensor result = at::empty({x.size(0), weight.size(0)}, x.options());
  multiply_by_rows({{.x = x, .weight = weight, .bias = bias, .result = result}});
  return result;
}

at::Tensor project_to_float32(const at::Tensor& x, const at::Tensor& weight, Numerics numerics) {
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(x)) {
      return gpu::project_to_float32(x, weight, numerics);
    }
  }
  return project(x.to(at::kFloat), weight.to(at::kFloat), at::Tensor(), numerics);
}

}  // namespace dovetail
