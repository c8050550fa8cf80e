#include "models/layers/products.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

/// Columns of a result that a tile has; a matter of balance between threads.
constexpr std::int64_t kColumnBlock = 256;

/// One row of a result, some of its columns. Not more rows: how a library adds up a row may depend
/// on the row's place within a call.
struct Tile {
  const RowProduct* product = nullptr;
  std::int64_t row = 0;
  std::int64_t first_column = 0;
};

void compute(const Tile& tile) {
  const RowProduct& product = *tile.product;
  const std::int64_t columns = std::min(kColumnBlock, product.weight.size(0) - tile.first_column);
  const at::Tensor x = aligned(product.x.narrow(0, tile.row, 1));
  const at::Tensor weight = product.weight.narrow(0, tile.first_column, columns).t();
  const at::Tensor result =
      product.bias.defined()
          ? at::addmm(product.bias.narrow(0, tile.first_column, columns), x, weight)
          : at::mm(x, weight);
  product.result.narrow(0, tile.row, 1).narrow(1, tile.first_column, columns).copy_(result);
}

}  // namespace

void multiply_in_tiles(std::vector<RowProduct> products) {
  std::vector<Tile> tiles;
  for (RowProduct& product : products) {
    product.weight = aligned(product.weight);
    for (std::int64_t column = 0; column < product.weight.size(0); column += kColumnBlock) {
      for (std::int64_t row = 0; row < product.x.size(0); ++row) {
        tiles.push_back({.product = &product, .row = row, .first_column = column});
      }
    }
  }
  for_each_tile(std::ssize(tiles),
                [&](std::int64_t i) { compute(tiles[static_cast<std::size_t>(i)]); });
}

at::Tensor project(const at::Tensor& x,
                   const at::Tensor& weight,
                   const at::Tensor& bias,
                   Numerics numerics) {
  if (numerics == Numerics::fast) {
    return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
  }
  at::Tensor result = at::empty({x.size(0), weight.size(0)}, x.options());
  multiply_in_tiles({{.x = x, .weight = weight, .bias = bias, .result = result}});
  return result;
}

}  // namespace dovetail
