// A line for every column and field that a report shows: what it is, over which ranks, in which
// unit, how it is computed. The headings of tables, `dovetail compare --explain` and the glossary
// in results/README.md come from here.
//
// A new column: its row in quantity_rows_*.cpp, in the order of the columns; its cell where the
// table is filled; then results/README.md, which `DOVETAIL_UPDATE_README=1 test_compare_quantities`
// writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "framework/base/enum_names.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {

/// Where a quantity is shown.
enum class Report {
  words,
  compare_steps,
  compare_kinds,
  compare_devices,
  compare_terms,
  compare_exchange,
  summary,
  verify,
  sweep_table,
  sweep_csv,
  sweep_json,
  check_grid,
  check_policies,
  check_work,
  check_memory,
  check_points,
  plan,
  pictures,
};

template <>
struct EnumNames<Report> {
  static constexpr std::array<std::string_view, 18> kTable = {
      "words that the others use",
      "compare: step times",
      "compare: steps by kind",
      "compare: graphs and memory",
      "compare: where the step goes",
      "compare: exchange and hand-off",
      "summary.json, and compare --format json",
      "verify",
      "sweep: the table",
      "sweep.csv, with the fields of sweep.json",
      "sweep.json: further fields",
      "check: grid",
      "check: policies",
      "check: work of a step",
      "check: memory",
      "check: points of a sweep",
      "plan",
      "pictures of launch/plot.py"};
};

/// The unit of a column that holds text. Such a column is left-aligned.
inline constexpr std::string_view kTextUnit = "text";

/// The columns of compare that are shown only where there are several runs.
inline constexpr std::string_view kRunHeading = "run";
inline constexpr std::string_view kBaselineHeading = "baseline";

struct Quantity {
  Report report = Report::summary;
  std::string heading;  ///< of the column; empty: it is a field only
  /// Its place in summary.json or, of the reports of a sweep, in sweep.json: keys joined by ".",
  /// lists left out ("points.status"). "a.*" is every field of a that has no line. Empty: none.
  std::string field;
  std::string unit;
  std::string ranks;    ///< over which ranks and steps; empty: the same on all, or of none
  std::string meaning;  ///< sentences
  std::string formula;  ///< in names of other lines; empty: measured or recorded as it is
};

/// All of them, report by report, each in the order of its columns.
const std::vector<Quantity>& quantities();

/// The columns of a table, in order.
std::vector<TextTable::Column> columns_of(Report report);
/// Their headings.
std::vector<std::string> headings_of(Report report);

/// The line of a column of `report`; null = none.
const Quantity* find_column(Report report, std::string_view heading);
/// The line of a field of summary.json, or of sweep.json; null = none.
const Quantity* find_summary_field(std::string_view field);
const Quantity* find_sweep_field(std::string_view field);

/// Those that `name` may mean: the heading, with or without its unit, or the field, whole or its
/// last key; in small or capital letters. Throws InputError where there is none.
std::vector<const Quantity*> find_quantities(const std::string& name);
/// Those of some reports, in the order of the table.
std::vector<const Quantity*> quantities_of(const std::vector<Report>& reports);

/// Lines for a terminal of that width, below the names of the reports.
std::string explain(const std::vector<const Quantity*>& quantities, std::size_t width = 100);

/// The glossary of results/README.md: a table for each report.
std::string write_quantities_as_markdown();

}  // namespace dovetail
