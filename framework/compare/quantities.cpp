#include "framework/compare/quantities.hpp"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/quantity_rows.hpp"
#include "framework/config/key_row.hpp"
#include "framework/record/schema_table.hpp"

namespace dovetail {
namespace {

std::string_view words_of(OverRanks ranks) {
  switch (ranks) {
    case OverRanks::first:
      return "rank 0; equal on all";
    case OverRanks::largest:
      return "fullest rank";
    case OverRanks::sum:
      return "sum over all";
    case OverRanks::left_out:
      break;
  }
  return "";
}

/// Where summary.json has a scalar of the rank files: "/graph/captures" in "graphs.captures", the
/// others under the names of their path.
std::string summary_field(std::string_view path) {
  std::string field(path.substr(1));
  if (path.starts_with(std::string(path::kGraph) + "/")) {
    field.insert(field.find('/'), "s");
  }
  std::replace(field.begin(), field.end(), '/', '.');
  return field;
}

/// A scalar of the rank files that has no line of its own gets one of what its row there says.
void add_recorded_scalars(std::vector<Quantity>& rows) {
  for (const DatasetRow& dataset : kDatasetRows) {
    const std::string field = summary_field(dataset.path);
    const bool is_known = std::any_of(
        rows.begin(), rows.end(), [&](const Quantity& row) { return row.field == field; });
    if (dataset.over_ranks != OverRanks::left_out && !is_known) {
      rows.push_back({Report::summary,
                      "",
                      field,
                      dataset.unit.empty() ? "count" : std::string(dataset.unit),
                      std::string(words_of(dataset.over_ranks)),
                      std::string(dataset.meaning),
                      ""});
    }
  }
}

std::vector<Quantity> make_quantities() {
  std::vector<Quantity> rows;
  const auto add = [&rows](std::vector<Quantity> more) {
    std::move(more.begin(), more.end(), std::back_inserter(rows));
  };
  add(word_quantities());
  add(compare_quantities());
  add(summary_quantities());
  add_recorded_scalars(rows);
  add(verify_quantities());
  add(sweep_quantities());
  add(plan_quantities());
  return rows;
}

bool is_of_sweep(Report report) {
  return report == Report::sweep_table || report == Report::sweep_csv ||
         report == Report::sweep_json;
}

/// The exact line, else that of the nearest "a.*".
const Quantity* find_field(std::string_view field, bool of_sweep) {
  const Quantity* pattern = nullptr;
  for (const Quantity& row : quantities()) {
    if (row.field.empty() || is_of_sweep(row.report) != of_sweep) {
      continue;
    }
    if (row.field == field) {
      return &row;
    }
    const bool matches =
        row.field.ends_with(".*") && field.starts_with(row.field.substr(0, row.field.size() - 1));
    if (matches && (pattern == nullptr || pattern->field.size() < row.field.size())) {
      pattern = &row;
    }
  }
  return pattern;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return result;
}

bool is_named(const Quantity& row, const std::string& name) {
  const std::string heading = lower(row.heading);
  const std::string field = lower(row.field);
  return !name.empty() &&
         (heading == name || heading.substr(0, heading.find(" [")) == name || field == name ||
          field.substr(field.rfind('.') + 1) == name || heading == "= " + name);
}

/// Lines of at most `width` characters, each behind four blanks.
std::string wrap(const std::string& text, std::size_t width) {
  std::istringstream words(text);
  std::string word;
  std::string line;
  std::string lines;
  while (words >> word) {
    if (!line.empty() && 4 + line.size() + 1 + word.size() > width) {
      lines += "    " + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? lines : lines + "    " + line + "\n";
}

std::string markdown_cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    cell += c == '|' ? "\\|" : std::string(1, c);
  }
  return cell;
}

std::string code(const std::string& text) {
  return text.empty() ? "" : "`" + text + "`";
}

}  // namespace

const std::vector<Quantity>& quantities() {
  static const std::vector<Quantity> all = make_quantities();
  return all;
}

std::vector<TextTable::Column> columns_of(Report report) {
  std::vector<TextTable::Column> columns;
  for (const Quantity& row : quantities()) {
    if (row.report == report && !row.heading.empty()) {
      columns.push_back(
          {row.heading, row.unit == kTextUnit ? TextTable::Align::left : TextTable::Align::right});
    }
  }
  return columns;
}

std::vector<std::string> headings_of(Report report) {
  std::vector<std::string> headings;
  for (const TextTable::Column& column : columns_of(report)) {
    headings.push_back(column.header);
  }
  return headings;
}

const Quantity* find_column(Report report, std::string_view heading) {
  const auto found =
      std::find_if(quantities().begin(), quantities().end(), [&](const Quantity& row) {
        return row.report == report && !row.heading.empty() && row.heading == heading;
      });
  return found == quantities().end() ? nullptr : &*found;
}

const Quantity* find_summary_field(std::string_view field) {
  return find_field(field, false);
}

const Quantity* find_sweep_field(std::string_view field) {
  return find_field(field, true);
}

std::vector<const Quantity*> find_quantities(const std::string& name) {
  std::vector<const Quantity*> found;
  std::vector<std::string> headings;  // of compare and of words, which come first
  for (const Quantity& row : quantities()) {
    if (is_named(row, lower(name))) {
      found.push_back(&row);
    }
    const bool is_new = std::find(headings.begin(), headings.end(), row.heading) == headings.end();
    if (row.report < Report::summary && !row.heading.empty() && is_new) {
      headings.push_back(row.heading);
    }
  }
  if (found.empty()) {
    throw InputError("no column or field '" + printable(name) +
                     "'; those of compare: " + join_names(headings));
  }
  return found;
}

std::vector<const Quantity*> quantities_of(const std::vector<Report>& reports) {
  std::vector<const Quantity*> found;
  for (const Quantity& row : quantities()) {
    if (std::find(reports.begin(), reports.end(), row.report) != reports.end()) {
      found.push_back(&row);
    }
  }
  return found;
}

std::string explain(const std::vector<const Quantity*>& quantities, std::size_t width) {
  std::string text;
  const Quantity* previous = nullptr;
  for (const Quantity* row : quantities) {
    if (previous == nullptr || previous->report != row->report) {
      text += (text.empty() ? "" : "\n") + std::string(to_string(row->report)) + "\n";
    }
    previous = row;
    text += "  " + (row->heading.empty() ? row->field : row->heading) + "\n" +
            wrap(plain_text(row->meaning), width);
    if (!row->formula.empty()) {
      text += wrap("= " + plain_text(row->formula), width);
    }
    std::string facts = row->unit.empty() ? "" : "unit: " + row->unit;
    if (!row->ranks.empty()) {
      facts += (facts.empty() ? "" : "; ") + ("ranks: " + row->ranks);
    }
    if (!row->heading.empty() && !row->field.empty()) {
      facts += (facts.empty() ? "" : "; ") + ("field: " + row->field);
    }
    text += wrap(facts, width);
  }
  return text;
}

std::string write_quantities_as_markdown() {
  std::string text;
  const Quantity* previous = nullptr;
  for (const Quantity& row : quantities()) {
    if (previous == nullptr || previous->report != row.report) {
      text += (previous == nullptr ? "**" : "\n**") + std::string(to_string(row.report)) +
              "**\n\n| column | field | unit | over ranks | what it is | computed as |\n"
              "|---|---|---|---|---|---|\n";
    }
    previous = &row;
    text += "| " + markdown_cell(row.heading) + " | " + code(row.field) + " | " + row.unit + " | " +
            row.ranks + " | " + markdown_cell(row.meaning) + " | " + markdown_cell(row.formula) +
            " |\n";
  }
  return text;
}

}  // namespace dovetail
