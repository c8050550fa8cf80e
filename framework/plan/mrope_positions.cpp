#include "framework/plan/mrope_positions.hpp"

#include <algorithm>

#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

constexpr std::uint64_t kMropeStream =
    0x6d726f7065;  // "mrope": apart from the other uses of the seed
constexpr std::int64_t kMinSide = 2;

/// The largest n with n * n <= value, at most kMaxImageSide.
std::int64_t largest_side(std::int64_t value) {
  std::int64_t side = 0;
  while (side < kMaxImageSide && (side + 1) * (side + 1) <= value) {
    ++side;
  }
  return side;
}

/// In [min, max].
std::int64_t draw(std::uint64_t hash, std::int64_t min, std::int64_t max) {
  return min + static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(max - min + 1));
}

}  // namespace

std::array<std::int64_t, 3> MropeLayout::at(std::int64_t index) const {
  if (index < prefix || height == 0) {
    return {index, index, index};
  }
  const std::int64_t patch = index - prefix;
  if (patch < height * width) {
    return {prefix, prefix + patch / width, prefix + patch % width};
  }
  const std::int64_t position = prefix + std::max(height, width) + patch - height * width;
  return {position, position, position};
}

MropeLayout mrope_layout(std::uint64_t seed, std::int64_t request, std::int64_t num_tokens) {
  const std::int64_t room = num_tokens - 2;
  if (room < kMinSide * kMinSide) {
    return {};
  }
  const std::uint64_t of_request =
      combine_hash(combine_hash(mix_bits(kMropeStream), seed), static_cast<std::uint64_t>(request));
  MropeLayout layout;
  layout.height = draw(combine_hash(of_request, 0), kMinSide, largest_side(room));
  layout.width =
      draw(combine_hash(of_request, 1), kMinSide, std::min(kMaxImageSide, room / layout.height));
  layout.prefix =
      draw(combine_hash(of_request, 2), 1, num_tokens - 1 - layout.height * layout.width);
  return layout;
}

}  // namespace dovetail
