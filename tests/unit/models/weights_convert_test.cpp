// Conversions equal torch's own to the bit, for every value of the 16-bit types.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/step/torch_dtype.hpp"
#include "models/weights/convert.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kPatterns = 65536;

/// Every bit pattern of a 16-bit type.
at::Tensor all_patterns(at::ScalarType type) {
  at::Tensor tensor = at::empty({kPatterns}, type);
  auto* const words = static_cast<std::uint16_t*>(tensor.data_ptr());
  for (std::int64_t i = 0; i < kPatterns; ++i) {
    words[i] = static_cast<std::uint16_t>(i);
  }
  return tensor;
}

/// Bits that decide rounding: random patterns, and neighbours of ties.
at::Tensor float_patterns() {
  constexpr std::int64_t count = 300'000;
  at::Tensor tensor = at::empty({count}, at::kFloat);
  auto* const words = static_cast<std::uint32_t*>(tensor.data_ptr());
  std::mt19937 random(7);
  for (std::int64_t i = 0; i < count; ++i) {
    words[i] = static_cast<std::uint32_t>(random());
    if (i % 3 == 1) {
      words[i] = (words[i] & 0xFFFF0000U) + 0x7FFFU + static_cast<std::uint32_t>(i % 4);
    } else if (i % 3 == 2) {  // within float16's range, near a tie
      words[i] =
          ((words[i] & 0x0FFFE000U) | 0x30000000U) + 0xFFFU + static_cast<std::uint32_t>(i % 4);
    }
  }
  return tensor;
}

/// Bytes that differ between ours and torch's, with NaNs equal to NaNs where the type changes.
void expect_as_torch(const at::Tensor& source, at::ScalarType to) {
  const at::Tensor expected = source.to(to);
  const auto size = static_cast<std::size_t>(expected.element_size());
  const auto count = static_cast<std::size_t>(source.numel());
  // An odd address on both sides: nothing may rely on alignment.
  std::vector<std::byte> from(source.nbytes() + 1);
  std::memcpy(from.data() + 1, source.const_data_ptr(), source.nbytes());
  std::vector<std::byte> ours(expected.nbytes() + 2, std::byte{0xA5});
  convert_elements(from.data() + 1,
                   from_torch(source.scalar_type()),
                   ours.data() + 1,
                   from_torch(to),
                   source.numel());
  EXPECT_EQ(ours.front(), std::byte{0xA5});
  EXPECT_EQ(ours.back(), std::byte{0xA5});
  at::Tensor result = at::empty({source.numel()}, to);
  std::memcpy(result.data_ptr(), ours.data() + 1, expected.nbytes());
  const at::Tensor ours_wide = result.to(at::kFloat);
  const at::Tensor expected_wide = expected.to(at::kFloat);
  const auto* const a = ours_wide.const_data_ptr<float>();
  const auto* const b = expected_wide.const_data_ptr<float>();
  std::size_t different = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool both_nan = std::isnan(a[i]) && std::isnan(b[i]) && to != source.scalar_type();
    const bool same_bits =
        std::memcmp(static_cast<const std::byte*>(result.const_data_ptr()) + i * size,
                    static_cast<const std::byte*>(expected.const_data_ptr()) + i * size,
                    size) == 0;
    different += !both_nan && !same_bits ? 1 : 0;
  }
  EXPECT_EQ(different, 0U) << source.scalar_type() << " to " << to;
}

TEST(WeightsConvert, EveryPatternOfThe16BitTypesAsTorch) {
  for (const at::ScalarType from : {at::kBFloat16, at::kHalf}) {
    for (const at::ScalarType to : {at::kFloat, at::kHalf, at::kBFloat16}) {
      expect_as_torch(all_patterns(from), to);
    }
  }
}

TEST(WeightsConvert, FloatsRoundAsTorch) {
  for (const at::ScalarType to : {at::kFloat, at::kHalf, at::kBFloat16}) {
    expect_as_torch(float_patterns(), to);
  }
}

TEST(WeightsConvert, OtherTypesAreRefused) {
  std::byte bytes[8] = {};
  EXPECT_THROW(convert_elements(bytes, DType::int32, bytes + 4, DType::float32, 1), ContractError);
  EXPECT_THROW(convert_elements(bytes, DType::float16, bytes + 2, DType::uint8, 1), ContractError);
}

}  // namespace
}  // namespace dovetail
