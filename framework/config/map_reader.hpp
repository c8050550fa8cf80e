// Reads typed values out of one YAML map; every error says where, what was found and what is
// allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/config/choices.hpp"
#include "framework/config/yaml_tree.hpp"

namespace dovetail {

/// A value and its key path, for messages.
struct Located {
  const YamlNode* node = nullptr;
  std::string path;

  /// Throws InputError "<place>: <path>: expected <expected>, found <what is there>".
  [[noreturn]] void fail(const std::string& expected) const;

  /// The items of a list. Throws unless it is one.
  std::vector<Located> items(const std::string& expected) const;

  /// A whole number from min to max.
  std::int64_t as_int(std::int64_t min, std::int64_t max) const;

  /// Nothing for `auto`, else a whole number from min to max.
  std::optional<int> as_auto_or_int(int min, int max) const;

  /// A whole number from 0 to 2^64 - 1.
  std::uint64_t as_unsigned() const;

  /// A finite number from min to max; whole numbers are numbers, too.
  double as_number(double min, double max) const;

  /// `true` or `false`, without quotes.
  bool as_truth() const;

  /// A list, not empty, of whole numbers from min to max.
  std::vector<std::int64_t> as_counts(std::int64_t min, std::int64_t max) const;

  /// Nothing for `auto`; else a list, not empty, of whole numbers from min to max, each above the
  /// one before it.
  std::optional<std::vector<std::int64_t>> as_auto_or_ascending(std::int64_t min,
                                                                std::int64_t max) const;

  /// Text of one line, not empty; plain text that reads as a number or truth value is none.
  std::string as_text(const std::string& expected = "text") const;

  /// One of `allowed`.
  std::string_view as_name(const std::vector<std::string_view>& allowed) const;

  template <class Enum>
  Enum as_choice() const {
    const auto allowed = names<Enum>();
    return *parse<Enum>(as_name({allowed.begin(), allowed.end()}));
  }

  /// True for an unquoted whole number, however large.
  bool is_number() const;

  /// True for an unquoted `word`.
  bool is_word(std::string_view word) const;
};

/// A map whose keys are all known.
class MapReader {
 public:
  /// Throws InputError unless `value` is a map with keys of `allowed` only.
  MapReader(Located value, const std::vector<std::string_view>& allowed);

  bool has(const std::string& key) const { return value_.node->find(key) != nullptr; }

  /// The value of a key that must be there. Throws InputError at the map otherwise; the message
  /// ends with `values`, what the key may hold, where they are known.
  Located at(const std::string& key, const std::string& values = "") const;

  /// The only key. Throws unless there is exactly one.
  const std::string& only_key() const;

  const Located& value() const { return value_; }

 private:
  Located value_;
  std::vector<std::string_view> allowed_;
};

}  // namespace dovetail
