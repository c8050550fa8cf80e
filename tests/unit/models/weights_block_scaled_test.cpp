// 8-bit floats with a factor a block: every value of the type against torch's, matrices with ragged
// last blocks against a plain loop in double, rows, pieces, and what is refused.
#include <cmath>
#include <random>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Float8_e8m0fnu.h>
#include <gtest/gtest.h>

#include "models/weights/block_scaled.hpp"
#include "models/weights/checkpoint.hpp"
#include "models/weights/safetensors_writer.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using ::dovetail::testing::input_error_of;
using ::dovetail::testing::ScratchFolder;

TensorToWrite stored(const std::string& name, const char* type, const at::Tensor& values) {
  return {name,
          type,
          values.sizes().vec(),
          {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()}};
}

/// Any bytes but the two NaN.
at::Tensor random_bytes(std::int64_t rows, std::int64_t columns) {
  const at::Tensor bytes = at::randint(256, {rows, columns}, at::kByte);
  return bytes.masked_fill(bytes.bitwise_and(127).eq(127), 0);
}

TEST(BlockScaled, EveryValueIsThatOfTheType) {
  int num_nan = 0;
  for (int bits = 0; bits < 256; ++bits) {
    const c10::Float8_e4m3fn wanted(static_cast<std::uint8_t>(bits),
                                    c10::Float8_e4m3fn::from_bits());
    const float value = float8_value(static_cast<std::uint8_t>(bits));
    if (std::isnan(static_cast<float>(wanted))) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      ++num_nan;
    } else {
      EXPECT_EQ(value, static_cast<float>(wanted)) << bits;
      EXPECT_EQ(std::signbit(value), bits >= 128) << bits;
    }
  }
  EXPECT_EQ(num_nan, 2);
}

TEST(BlockScaled, FactorsOfEightBitsArePowersOfTwo) {
  for (int bits = 0; bits < 256; ++bits) {
    const c10::Float8_e8m0fnu wanted(static_cast<std::uint8_t>(bits),
                                     c10::Float8_e8m0fnu::from_bits());
    const float value = exponent8_value(static_cast<std::uint8_t>(bits));
    if (bits == 255) {
      EXPECT_TRUE(std::isnan(value) && std::isnan(static_cast<float>(wanted)));
    } else {
      EXPECT_EQ(value, static_cast<float>(wanted)) << bits;
      EXPECT_EQ(std::log2(static_cast<double>(value)), bits - 127);
    }
  }
}

/// A matrix of whole and ragged blocks, with its factors in one file.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns)
      : bytes_(random_bytes(rows, columns)),
        scales_(at::randn({num_scale_blocks(rows), num_scale_blocks(columns)}).abs() + 0.01) {
    write_safetensors(folder_ / "model.safetensors",
                      std::vector{stored("a.weight", "F8_E4M3", bytes_),
                                  stored("a.weight_scale_inv", "F32", scales_)});
  }

  std::string path() const { return folder_.path(); }

  std::int64_t bytes() const { return bytes_.numel() + 4 * scales_.numel(); }

  /// By the definition; products of 4 and 24 bits are exact in double.
  double value(std::int64_t row, std::int64_t column) const {
    const auto bits = bytes_[row][column].item<std::uint8_t>();
    return static_cast<double>(float8_value(bits)) * scales_[row / 128][column / 128].item<float>();
  }

 private:
  ScratchFolder folder_;
  at::Tensor bytes_;
  at::Tensor scales_;
};

void expect_values(const Matrix& matrix, const at::Tensor& got, std::int64_t first_row) {
  const double unit = got.scalar_type() == at::kFloat  ? std::ldexp(1.0, -24)
                      : got.scalar_type() == at::kHalf ? std::ldexp(1.0, -11)
                                                       : std::ldexp(1.0, -8);
  const at::Tensor wide = got.to(at::kDouble);
  const auto values = wide.accessor<double, 2>();
  for (std::int64_t row = 0; row < got.size(0); ++row) {
    for (std::int64_t column = 0; column < got.size(1); ++column) {
      const double wanted = matrix.value(first_row + row, column);
      // Half a last place, float32's before it, and denormals of float16.
      ASSERT_NEAR(values[row][column], wanted, std::abs(wanted) * unit * 1.001 + 3e-8)
          << first_row + row << ", " << column;
    }
  }
}

TEST(BlockScaled, MatricesAreReadOnceIntoEveryType) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  at::manual_seed(seed);
  for (const auto& [rows, columns] :
       {std::pair(128, 128), {130, 257}, {1, 300}, {255, 5}, {256, 384}}) {
    const Matrix matrix(rows, columns);
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      CheckpointSource source(matrix.path());
      const at::Tensor got = at::full({rows, columns}, std::nan(""), type);
      source.read({"a.weight", {rows, columns}, 0, got});
      expect_values(matrix, got, 0);
      EXPECT_EQ(source.bytes_read(), matrix.bytes());
    }
  }
}

TEST(BlockScaled, RowsTakeTheirOwnFactors) {
  at::manual_seed(4);
  const Matrix matrix(300, 140);
  CheckpointSource source(matrix.path());
  for (const auto& [first, count] :
       {std::pair(0, 1), {127, 2}, {128, 100}, {200, 100}, {299, 1}, {5, 0}}) {
    const at::Tensor got = at::empty({count, 140});
    source.read({"a.weight", {300, 140}, first, got});
    expect_values(matrix, got, first);
  }
}

/// Stacked matrices are what each of them is alone, whichever of them are read.
TEST(BlockScaled, StackedMatricesHaveFactorsOfTheirOwn) {
  at::manual_seed(8);
  constexpr std::int64_t matrices = 5;
  for (const auto& [rows, columns] : {std::pair(128, 128), {130, 257}, {257, 40}, {7, 130}}) {
    const at::Tensor bytes = random_bytes(matrices * rows, columns).view({matrices, rows, columns});
    const at::Tensor exponents = at::randint(
        100, 150, {matrices, num_scale_blocks(rows), num_scale_blocks(columns)}, at::kByte);
    const ScratchFolder stack;
    write_safetensors(
        stack / "model.safetensors",
        std::vector{stored("a", "F8_E4M3", bytes), stored("a_scale_inv", "F8_E8M0", exponents)});
    CheckpointSource source(stack.path());
    for (const auto& [first, count] : {std::pair(0, 5), {1, 2}, {4, 1}, {3, 0}}) {
      const at::Tensor got = at::full({count, rows, columns}, std::nan(""));
      source.read({"a", {matrices, rows, columns}, first, got});
      for (std::int64_t i = 0; i < count; ++i) {
        const ScratchFolder apart;
        const at::Tensor one = bytes[first + i].contiguous();
        const at::Tensor factors =
            at::pow(2, exponents[first + i].to(at::kFloat) - 127).contiguous();
        write_safetensors(
            apart / "model.safetensors",
            std::vector{stored("b", "F8_E4M3", one), stored("b_scale_inv", "F32", factors)});
        CheckpointSource alone(apart.path());
        const at::Tensor wanted = at::empty({rows, columns});
        alone.read({"b", {rows, columns}, 0, wanted});
        EXPECT_TRUE(at::equal(got[i], wanted)) << rows << " x " << columns << ", " << first + i;
      }
    }
  }
}

/// Its twin: the factor of a neighbouring block is another value.
TEST(BlockScaled, AnotherBlocksFactorIsSeen) {
  BlockScales scales = {.rows = 512, .columns = 256, .first_block_row = 1, .values = {2.0F, 3.0F}};
  const std::byte one{0x38};
  float value = 0;
  const auto at = [&](std::int64_t index) {
    convert_block_scaled(
        {&one, 1}, index, scales, reinterpret_cast<std::byte*>(&value), DType::float32);
    return value;
  };
  EXPECT_EQ(at(128 * 256 + 127), 2.0F);
  EXPECT_EQ(at(128 * 256 + 128), 3.0F);
  EXPECT_EQ(at(255 * 256 + 255), 3.0F);
  EXPECT_THROW(at(256 * 256), ContractError);
  EXPECT_THROW(at(127 * 256 + 255), ContractError);
  // Matrices of 130 rows: the second one's first row has a block of its own.
  scales = {.rows = 130, .columns = 1, .first_block_row = 0, .values = {2.0F, 3.0F, 4.0F}};
  EXPECT_EQ(at(127), 2.0F);
  EXPECT_EQ(at(129), 3.0F);
  EXPECT_EQ(at(130), 4.0F);
  EXPECT_EQ(at(130 + 127), 4.0F);
}

TEST(BlockScaled, LargerThanAPiece) {
  at::manual_seed(5);
  const Matrix matrix(520, 9000);  // 4.7 million elements, pieces are 1 million of float32
  CheckpointSource source(matrix.path());
  const at::Tensor got = at::empty({520, 9000});
  source.read({"a.weight", {520, 9000}, 0, got});
  for (int i = 0; i < 2000; ++i) {
    const auto row = at::randint(520, {1}, at::kLong).item<std::int64_t>();
    const auto column = at::randint(9000, {1}, at::kLong).item<std::int64_t>();
    ASSERT_EQ(got[row][column].item<float>(), static_cast<float>(matrix.value(row, column)));
  }
}

TEST(BlockScaled, WhatCannotBeReadIsNamed) {
  const ScratchFolder folder;
  const at::Tensor bytes = random_bytes(130, 4);
  const at::Tensor stacked = at::randint(120, {2, 3, 4}, at::kByte);
  write_safetensors(folder / "model.safetensors",
                    std::vector{stored("alone.weight", "F8_E4M3", bytes),
                                stored("wrong.weight", "F8_E4M3", bytes),
                                stored("wrong.weight_scale_inv", "F32", at::rand({1, 1})),
                                stored("stacked", "F8_E4M3", stacked),
                                stored("stacked_scale_inv", "F32", at::rand({2, 1})),
                                stored("vector", "F8_E4M3", stacked.view({24})),
                                stored("vector_scale_inv", "F32", at::rand({1}))});
  CheckpointSource source(folder.path());
  const auto message = [&](const char* name, const std::vector<std::int64_t>& shape, bool on_meta) {
    const auto options = at::TensorOptions().device(on_meta ? at::kMeta : at::kCPU);
    return input_error_of([&] { source.read({name, shape, 0, at::empty(shape, options)}); });
  };
  for (const bool on_meta : {false, true}) {
    EXPECT_NE(message("alone.weight", {130, 4}, on_meta).find("'<name>_scale_inv'"),
              std::string::npos);
    EXPECT_NE(message("wrong.weight", {130, 4}, on_meta)
                  .find("'wrong.weight_scale_inv' has shape [1, 1]; the model needs [2, 1]"),
              std::string::npos);
    EXPECT_NE(message("stacked", {2, 3, 4}, on_meta)
                  .find("'stacked_scale_inv' has shape [2, 1]; the model needs [2, 1, 1]"),
              std::string::npos);
    EXPECT_NE(message("vector", {24}, on_meta).find("cannot be read"), std::string::npos);
  }
  EXPECT_EQ(source.bytes_read(), 0);
  EXPECT_NE(
      message("alone.wight", {130, 4}, false).find("the nearest name is tensor 'alone.weight'"),
      std::string::npos);
}

}  // namespace
}  // namespace dovetail
