// Text and numbers as they stand in YAML: what is legal, how numbers are read, how both are written
// so that they read back as themselves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dovetail {

/// Throws InputError at the first byte that is not UTF-8 or is a control character other than tab
/// and line ends (yaml-cpp takes one of them for the end of the file).
void check_text(const std::string& text, const std::string& file);

/// True for text without control characters.
bool is_one_line(std::string_view text);

/// A whole number in decimal without leading zeros, "-12"; nothing where `text` is anything else or
/// does not fit.
std::optional<std::int64_t> parse_int(std::string_view text);
std::optional<std::uint64_t> parse_unsigned(std::string_view text);

/// A finite decimal number, "1", "-0.5", "1e-3"; nothing where `text` is anything else (nan, inf,
/// hexadecimal) or does not fit.
std::optional<double> parse_number(std::string_view text);

/// True where plain `text` would not be read as text: a number, a truth value or null.
bool is_not_text(std::string_view text);

/// The shortest decimal that reads back as exactly `value`, with a point or an exponent.
std::string write_number(double value);

/// Plain where that reads back as the same text, otherwise in double quotes.
std::string write_text(std::string_view text);

}  // namespace dovetail
