// Strict reading of a Hugging Face config.json: every value that a model needs is there, has the
// right type and lies in its range, or an InputError names file, key and what is allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace dovetail {

/// Whole numbers that are allowed, both ends included.
struct IntRange {
  std::int64_t min = 1;
  std::int64_t max = std::int64_t{1} << 30;
};

/// What a file means that does not have a key, and one that has null under it.
struct AbsentKey {
  std::string_view key;
  std::string_view missing;  ///< JSON; empty = nothing: whoever reads the key knows or refuses
  std::string_view null;     ///< JSON, where "null" is as good as missing a value; empty = refused
};

/// A JSON object of a config.json (the file itself, or an object inside it). It keeps in mind which
/// keys it was asked for, so that what nobody has read can be refused (hf_config_keys.hpp). A key
/// whose value is null counts as absent, unless complete() was told otherwise. For one thread.
class HfConfig {
 public:
  /// Throws InputError where the file cannot be read or is larger than 16 MiB, is not JSON (with
  /// line and column), repeats a key, or is not an object. Infinity and NaN, which Python writes
  /// and JSON does not have, are taken as strings: an error where a number is read.
  static HfConfig read(const std::string& path);

  /// Gives these keys the values that they stand for where the file does not. Throws InputError for
  /// a null that is refused.
  void complete(std::span<const AbsentKey> keys);

  const std::string& path() const { return path_; }

  bool has(const std::string& key) const;

  bool is_empty() const { return values_.empty(); }

  /// The values of a key that must be there.
  std::int64_t integer(const std::string& key, IntRange range = {}) const;
  bool boolean(const std::string& key) const;
  /// Finite and > 0.
  double positive_number(const std::string& key) const;
  /// Finite and >= min.
  double number(const std::string& key, double min) const;
  std::string string(const std::string& key) const;

  /// The values of a key that may be missing.
  std::int64_t integer_or(const std::string& key, std::int64_t missing, IntRange range = {}) const;
  bool boolean_or(const std::string& key, bool missing) const;
  std::optional<double> optional_positive_number(const std::string& key) const;
  double number_or(const std::string& key, double missing, double min) const;
  std::string string_or(const std::string& key, const std::string& missing) const;
  std::vector<std::int64_t> integers_or_empty(const std::string& key, IntRange range) const;
  std::vector<std::string> strings_or_empty(const std::string& key) const;

  /// The object under a key that is there.
  HfConfig object(const std::string& key) const;

  /// The value of a key that is there, as it is.
  const nlohmann::json& value(const std::string& key) const;

  /// Keys that are there and that no call has asked for, in alphabetical order.
  std::vector<std::string> keys_not_asked() const;

  /// Throws InputError "file: key 'x' message".
  [[noreturn]] void fail(const std::string& key, const std::string& message) const;

 private:
  HfConfig(std::string path, std::string prefix, nlohmann::json values);
  std::int64_t checked_integer(const std::string& key,
                               const nlohmann::json& value,
                               IntRange range) const;

  std::string path_;
  std::string prefix_;  // of key names in messages: "rope_parameters."
  nlohmann::json values_;
  mutable std::set<std::string> asked_;
};

}  // namespace dovetail
