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

std::vector<std::size_t> TextTable::widths() const {
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) {
    widths.push_back(width_of(column.header));
  }
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  return widths;
}

std::string TextTable::block(const std::vector<std::size_t>& columns,
                             const std::vector<std::size_t>& widths) const {
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    std::string line;
    for (const std::size_t i : columns) {
      const std::string cell = cell_of(i);
      const std::string blanks(widths[i] - width_of(cell), ' ');
      line += i == columns.front() ? "" : "  ";
      line += columns_[i].align == Align::left ? cell + blanks : blanks + cell;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line([&](std::size_t i) { return columns_[i].header; });
  add_line([&](std::size_t i) { return std::string(widths[i], '-'); });
  for (const auto& row : rows_) {
    add_line([&](std::size_t i) { return row[i]; });
  }
  return text;
}

std::string TextTable::to_string(std::size_t width, std::size_t num_repeated) const {
  const auto all = widths();
  std::vector<std::size_t> repeated;
  std::size_t repeated_width = 0;
  for (std::size_t i = 0; i < std::min(num_repeated, all.size()); ++i) {
    repeated.push_back(i);
    repeated_width += all[i] + (i == 0 ? 0 : 2);
  }
  std::string text;
  auto columns = repeated;
  std::size_t used = repeated_width;
  for (std::size_t i = repeated.size(); i < all.size(); ++i) {
    if (width > 0 && used + 2 + all[i] > width && columns.size() > repeated.size()) {
      text += block(columns, all) + "\n";
      columns = repeated;
      used = repeated_width;
    }
    columns.push_back(i);
    used += 2 + all[i];
  }
  return text + block(columns, all);
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
