// Text from outside and numbers, as messages and records show them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dovetail {

/// How many bytes a message shows of what may be long: JSON values, names of tensors, what a
/// library says.
inline constexpr std::size_t kMaxLongQuoteBytes = 200;

/// Text from outside as a message may quote it: control characters and bytes that are not UTF-8 as
/// '?', what is longer than `max_bytes` cut in front of a character and ended by "...".
std::string printable(std::string_view text, std::size_t max_bytes = 60);

/// Bytes of the UTF-8 character at the start of `text`, 0 where it is none. Overlong forms and
/// surrogates are none (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text);

/// True for the control characters of ASCII: below 0x20, and 0x7f.
constexpr bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// "1 rank", "3 ranks", "0 ubatches".
std::string counted(std::int64_t count, std::string_view noun);

/// 16 digits, lower case: "00000000000000ff".
std::string hexadecimal(std::uint64_t value);

}  // namespace dovetail
