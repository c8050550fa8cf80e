#include "framework/config/yaml_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

constexpr std::size_t kMaxPrintableBytes = 60;

// Plain words that YAML takes for null or a truth value.
constexpr std::array<std::string_view, 11> kOtherWords = {
    "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// Bytes of the UTF-8 character at the start of `text`, 0 where it is none. Overlong forms and
/// surrogates are none (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto follows = [byte](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  if (first >= 0xc2 && first <= 0xdf) {
    return follows(1) ? 2 : 0;
  }
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return follows(1, low, high) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

/// "-12" and the like: an optional sign, then 0 or digits that do not begin with 0.
bool is_whole(std::string_view text, bool may_be_negative) {
  if (may_be_negative && text.starts_with('-')) {
    text.remove_prefix(1);
  }
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit) &&
         (text.size() == 1 || text.front() != '0');
}

template <class Number>
std::optional<Number> convert(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc{} || result.ptr != end) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

void check_text(const std::string& text, const std::string& file) {
  int line = 1;
  int column = 1;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const std::size_t length = utf8_length(std::string_view(text).substr(i));
    if (length == 0) {
      throw InputError(file, line, column, "a byte that is not UTF-8; allowed: UTF-8 text");
    }
    const bool is_line_end = c == '\n' || (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n');
    if (is_control(c) && c != '\t' && !is_line_end) {
      throw InputError(file, line, column, "a control character; allowed: UTF-8 text");
    }
    i += length;
    ++column;
    if (c == '\n') {
      ++line;
      column = 1;
    }
  }
}

bool is_one_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(), is_control);
}

std::string printable(std::string_view text) {
  std::string shown;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = std::max<std::size_t>(1, utf8_length(text.substr(i)));
    if (shown.size() + length > kMaxPrintableBytes) {
      return shown + "...";
    }
    if (is_control(text[i])) {
      shown += '?';
    } else {
      shown += text.substr(i, length);
    }
    i += length;
  }
  return shown;
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  return is_whole(text, true) ? convert<std::int64_t>(text) : std::nullopt;
}

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  return is_whole(text, false) ? convert<std::uint64_t>(text) : std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
  const auto value = convert<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

bool is_not_text(std::string_view text) {
  return std::find(kOtherWords.begin(), kOtherWords.end(), text) != kOtherWords.end() ||
         convert<double>(text).has_value();
}

std::string write_number(double value) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  if (text.find_first_of(".e") == std::string::npos) {
    text += ".0";
  }
  return text;
}

std::string write_text(std::string_view text) {
  const auto is_plain = [](char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '/' || c == '.' || c == '-';
  };
  if (!text.empty() && text.front() != '-' && std::all_of(text.begin(), text.end(), is_plain) &&
      !is_not_text(text)) {
    return std::string(text);
  }
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
    }
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace dovetail
