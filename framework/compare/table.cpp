#include "framework/compare/table.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

std::size_t width_of(const std::string& text) {
  // Bytes that continue a UTF-8 character (10xxxxxx) take no column of their own.
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

std::string print(const char* format, int decimals, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, decimals, value);
  return buffer.data();
}

}  // namespace

void TextTable::add_row(std::vector<std::string> cells) {
  DOVETAIL_CHECK_EQ(cells.size(), columns_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::to_string() const {
  std::vector<std::string> headers;
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) {
    headers.push_back(column.header);
    widths.push_back(width_of(column.header));
  }
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::string text;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string blanks(widths[i] - width_of(cells[i]), ' ');
      line += i == 0 ? "" : "  ";
      line += columns_[i].align == Align::left ? cells[i] + blanks : blanks + cells[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  std::vector<std::string> rules;
  rules.reserve(widths.size());
  for (const std::size_t width : widths) {
    rules.emplace_back(width, '-');
  }
  add_line(headers);
  add_line(rules);
  for (const auto& row : rows_) {
    add_line(row);
  }
  return text;
}

std::string format_fixed(double value, int decimals) {
  return std::isfinite(value) ? print("%.*f", decimals, value) : "-";
}

std::string format_ms(double ns) {
  return format_fixed(ns / 1e6, 3);
}

std::string format_us(double ns) {
  return format_fixed(ns / 1e3, 1);
}

std::string format_percent(double share) {
  return std::isfinite(share) ? format_fixed(share * 100, 1) + " %" : "-";
}

std::string format_error(double value) {
  return value == 0 ? "0" : print("%.*e", 2, value);
}

}  // namespace dovetail
