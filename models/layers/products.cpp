#include "models/layers/products.hpp"

#include <algorithm>
#include <optional>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "models/layers/cuda/layers.hpp"
#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

/// Columns of a result that a tile has on the CPU; a matter of balance between threads. On a GPU a
/// tile has all.
constexpr std::int64_t kColumnBlock = 256;

/// Rows of a tile. On the CPU one: how a library adds up a row may depend on the row's place within
/// a call.
std::int64_t rows_of_tile(const at::Tensor& x) {
  return x.is_cpu() ? 1 : kRowBlock;
}

/// Rows and columns of one call.
struct Tile {
  const RowProduct* product = nullptr;
  at::Tensor x;       ///< [rows of the tile, in]
  at::Tensor weight;  ///< [out of the tile, in]
  std::int64_t first_row = 0;
  std::int64_t first_column = 0;
};

void add_tiles(const RowProduct& product, std::vector<Tile>& tiles) {
  const std::int64_t rows = product.x.size(0);
  const std::int64_t columns = product.weight.size(0);
  const std::int64_t step = product.x.is_cpu() ? kColumnBlock : columns;
  if (rows == 0) {
    return;
  }
  const std::int64_t block = rows_of_tile(product.x);
  const at::Tensor x = block == 1 ? product.x : in_whole_blocks(product.x);
  const at::Tensor weight = aligned(product.weight);
  for (std::int64_t column = 0; column < columns; column += step) {
    const at::Tensor part = weight.narrow(0, column, std::min(step, columns - column));
    for (std::int64_t row = 0; row < rows; row += block) {
      tiles.push_back({.product = &product,
                       .x = x.narrow(0, row, block),
                       .weight = part,
                       .first_row = row,
                       .first_column = column});
    }
  }
}

void compute(const Tile& tile) {
  const RowProduct& product = *tile.product;
  const std::int64_t columns = tile.weight.size(0);
  const at::Tensor transposed = tile.weight.t();
  const at::Tensor x = aligned(tile.x);
  const at::Tensor result =
      product.bias.defined()
          ? at::addmm(product.bias.narrow(0, tile.first_column, columns), x, transposed)
          : at::mm(x, transposed);
  const std::int64_t rows = std::min(x.size(0), product.x.size(0) - tile.first_row);
  product.result.narrow(0, tile.first_row, rows)
      .narrow(1, tile.first_column, columns)
      .copy_(result.narrow(0, 0, rows));
}

}  // namespace

void multiply_in_tiles(const std::vector<RowProduct>& products) {
  std::vector<Tile> tiles;
  for (const RowProduct& product : products) {
    add_tiles(product, tiles);
  }
  if (!tiles.empty()) {
    for_each_tile(products.front().x.device(),
                  static_cast<std::int64_t>(tiles.size()),
                  [&](std::int64_t i) { compute(tiles[static_cast<std::size_t>(i)]); });
  }
}

at::Tensor project(const at::Tensor& x,
                   const at::Tensor& weight,
                   const at::Tensor& bias,
                   Numerics numerics) {
  if (numerics == Numerics::fast || gpu::serves(x)) {
    return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
  }
  at::Tensor result = at::empty({x.size(0), weight.size(0)}, x.options());
  multiply_in_tiles({{.x = x, .weight = weight, .bias = bias, .result = result}});
  return result;
}

}  // namespace dovetail
