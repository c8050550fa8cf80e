// Small text tables for people: aligned columns, units in the headers. Used for every table that
// the command line prints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dovetail {

/// Rows of text under headers. A column is right-aligned unless made with Align::left.
class TextTable {
 public:
  enum class Align { left, right };

  struct Column {
    std::string header;  ///< with its unit, e.g. "p50 [ms]"
    Align align = Align::right;
  };

  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// One cell a column; throws ContractError for another number of cells.
  void add_row(std::vector<std::string> cells);

  /// Lines, each ended by "\n": headers, a rule, rows; two spaces between columns, no trailing
  /// blanks. Widths count UTF-8 characters. A table that is wider than `width` is cut into blocks
  /// between columns, an empty line between blocks, each with the columns on the left up to
  /// `num_repeated` again; 0: it is not cut. A column that alone is wider stays whole.
  std::string to_string(std::size_t width = 0, std::size_t num_repeated = 1) const;

 private:
  std::vector<std::size_t> widths() const;
  std::string block(const std::vector<std::size_t>& columns,
                    const std::vector<std::size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// `value` with a fixed number of decimals; "-" where it is not finite.
std::string format_fixed(double value, int decimals);

/// Nanoseconds as milliseconds or microseconds with three or one decimals; "-" where not finite.
std::string format_ms(double ns);
std::string format_us(double ns);

/// A share of one as percent with one decimal, "12.3 %"; "-" where not finite.
std::string format_percent(double share);

/// Three significant digits in scientific form ("1.25e-07"), "0" for zero; "nan" and "inf" stay.
std::string format_error(double value);

}  // namespace dovetail
