// Seeded 3-D positions of a request that holds an image, as multimodal RoPE takes them.
#pragma once

#include <array>
#include <cstdint>

namespace dovetail {

/// A request's tokens: `prefix` tokens of text, then an image of height x width patches row by row,
/// then text to the end. The three components (time, height, width) of token t are
///   text before:  t, t, t
///   patch j = t - prefix:  prefix, prefix + j / width, prefix + j mod width
///   text after:  all three prefix + max(height, width) + (t - prefix - height * width)
/// as in Qwen2-VL (arXiv:2409.12191, section 2.1): an image counts from where the text before it
/// ends, text goes on at the largest position so far plus 1.
struct MropeLayout {
  std::int64_t prefix = 0;
  std::int64_t height = 0;  ///< 0 = no image, all text
  std::int64_t width = 0;

  /// Time, height and width position of token `index` of the request.
  std::array<std::int64_t, 3> at(std::int64_t index) const;
};

/// Largest height and width of an image, in patches.
inline constexpr std::int64_t kMaxImageSide = 32;

/// The layout of a request of `num_tokens` tokens, contexts and all steps counted: pure function of
/// (seed, request, num_tokens), so that it does not matter how the tokens are cut into steps.
/// height in [2, min(kMaxImageSide, sqrt(room))], width in [2, min(kMaxImageSide, room / height)],
/// where room = num_tokens - 2 leaves a token of text on each side; fewer than 6 tokens are text.
MropeLayout mrope_layout(std::uint64_t seed, std::int64_t request, std::int64_t num_tokens);

}  // namespace dovetail
