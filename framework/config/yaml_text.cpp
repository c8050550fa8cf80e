#include "framework/config/yaml_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

// Plain words that YAML takes for null or a truth value.
constexpr std::array<std::string_view, 11> kOtherWords = {
    "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
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
    // A line end that is left in quotes would read back as a blank.
    const char* escaped = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : nullptr;
    if (escaped != nullptr) {
      quoted += escaped;
      continue;
    }
    if (c == '"' || c == '\\') {
      quoted += '\\';
    }
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace dovetail
