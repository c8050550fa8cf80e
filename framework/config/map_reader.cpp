#include "framework/config/map_reader.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "framework/base/text.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

/// Levenshtein distance: insertions, deletions and substitutions of one character.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0U);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substitute, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

/// "; did you mean 'x'?" where a name is near, else empty.
std::string suggest(std::string_view name, const std::vector<std::string_view>& allowed) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  if (name.size() > 60) {
    return "";
  }
  for (const std::string_view candidate : allowed) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best.empty() ? "" : "; did you mean '" + std::string(best) + "'?";
}

std::string in_front(const std::string& path) {
  return path.empty() ? "" : path + ": ";
}

bool is_plain(const YamlNode& node) {
  return node.kind == YamlNode::Kind::scalar && !node.quoted;
}

}  // namespace

void Located::fail(const std::string& expected) const {
  fail_at(node->mark, in_front(path) + "expected " + expected + ", found " + describe(*node));
}

std::vector<Located> Located::items(const std::string& expected) const {
  if (node->kind != YamlNode::Kind::sequence) {
    fail(expected);
  }
  std::vector<Located> all;
  for (std::size_t i = 0; i < node->items.size(); ++i) {
    all.push_back({&node->items[i], path + "[" + std::to_string(i) + "]"});
  }
  return all;
}

std::int64_t Located::as_int(std::int64_t min, std::int64_t max) const {
  const auto value = is_plain(*node) ? parse_int(node->text) : std::nullopt;
  if (!value || *value < min || *value > max) {
    fail("a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return *value;
}

bool Located::is_number() const {
  return is_plain(*node) && parse_int(node->text).has_value();
}

std::optional<int> Located::as_auto_or_int(int min, int max) const {
  if (is_word("auto")) {
    return std::nullopt;
  }
  const auto value = is_plain(*node) ? parse_int(node->text) : std::nullopt;
  if (!value || *value < min || *value > max) {
    fail("auto, or a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return static_cast<int>(*value);
}

std::uint64_t Located::as_unsigned() const {
  const auto value = is_plain(*node) ? parse_unsigned(node->text) : std::nullopt;
  if (!value) {
    fail("a whole number from 0 to 18446744073709551615");
  }
  return *value;
}

double Located::as_number(double min, double max) const {
  const auto value = is_plain(*node) ? parse_number(node->text) : std::nullopt;
  if (!value || *value < min || *value > max) {
    fail("a number from " + write_number(min) + " to " + write_number(max));
  }
  return *value;
}

bool Located::as_truth() const {
  if (!is_word("true") && !is_word("false")) {
    fail("true or false");
  }
  return is_word("true");
}

std::vector<std::int64_t> Located::as_counts(std::int64_t min, std::int64_t max) const {
  std::vector<std::int64_t> counts;
  const auto all = items("a list of whole numbers");
  if (all.empty()) {
    fail_at(node->mark, path + ": an empty list; allowed: at least one whole number");
  }
  counts.reserve(all.size());
  for (const Located& item : all) {
    counts.push_back(item.as_int(min, max));
  }
  return counts;
}

std::optional<std::vector<std::int64_t>> Located::as_auto_or_ascending(std::int64_t min,
                                                                       std::int64_t max) const {
  if (is_word("auto")) {
    return std::nullopt;
  }
  const std::string expected = "auto, or an ascending list of whole numbers from " +
                               std::to_string(min) + " to " + std::to_string(max);
  std::vector<std::int64_t> numbers;
  for (const Located& item : items(expected)) {
    const std::int64_t number = item.as_int(min, max);
    if (!numbers.empty() && number <= numbers.back()) {
      item.fail("more than " + std::to_string(numbers.back()) + ", which stands before it");
    }
    numbers.push_back(number);
  }
  if (numbers.empty()) {
    fail_at(node->mark, path + ": an empty list; allowed: " + expected);
  }
  return numbers;
}

std::string Located::as_text(const std::string& expected) const {
  if (node->kind != YamlNode::Kind::scalar || node->text.empty()) {
    fail(expected);
  }
  if (!node->quoted && is_not_text(node->text)) {
    fail(expected + " (in quotes, if it is meant as text)");
  }
  if (!is_one_line(node->text)) {
    fail(expected + " without control characters and line ends");
  }
  return node->text;
}

std::string_view Located::as_name(const std::vector<std::string_view>& allowed) const {
  const auto found = node->kind == YamlNode::Kind::scalar
                         ? std::find(allowed.begin(), allowed.end(), node->text)
                         : allowed.end();
  if (found == allowed.end()) {
    fail("one of " + join_names(allowed));
  }
  return *found;
}

bool Located::is_word(std::string_view word) const {
  return is_plain(*node) && node->text == word;
}

MapReader::MapReader(Located value, const std::vector<std::string_view>& allowed)
    : value_(std::move(value)), allowed_(allowed) {
  if (value_.node->kind != YamlNode::Kind::map) {
    value_.fail("a map with keys of " + join_names(allowed_));
  }
  for (const YamlEntry& entry : value_.node->entries) {
    if (std::find(allowed_.begin(), allowed_.end(), entry.key) == allowed_.end()) {
      fail_at(entry.mark,
              in_front(value_.path) + "unknown key '" + printable(entry.key) + "'" +
                  suggest(entry.key, allowed_) + "; allowed: " + join_names(allowed_));
    }
  }
}

Located MapReader::at(const std::string& key, const std::string& values) const {
  const YamlNode* node = value_.node->find(key);
  if (node == nullptr) {
    fail_at(value_.node->mark,
            in_front(value_.path) + "the key '" + key + "' is missing" +
                (values.empty() ? "" : "; it is required: " + values));
  }
  return {node, value_.path.empty() ? key : value_.path + "." + key};
}

const std::string& MapReader::only_key() const {
  if (value_.node->entries.size() != 1) {
    value_.fail("a map with exactly one key of " + join_names(allowed_));
  }
  return value_.node->entries.front().key;
}

}  // namespace dovetail
