// YAML text as a tree of values that remember their place. Between yaml-cpp and load.cpp:
// yaml-cpp's own nodes drop duplicate keys and the places of keys.
#pragma once

#include <string>
#include <vector>

namespace dovetail {

/// Where a value was written: a file with line and column from 1, or `file` = "--set key=value"
/// with line and column 0.
struct SourceMark {
  std::string file;
  int line = 0;
  int column = 0;

  friend bool operator==(const SourceMark&, const SourceMark&) = default;
};

struct YamlEntry;

/// A value; only the members of its kind are filled.
struct YamlNode {
  enum class Kind { null, scalar, sequence, map };

  Kind kind = Kind::null;
  SourceMark mark;
  std::string text;     ///< scalar
  bool quoted = false;  ///< scalar: written in quotes (or as a block), so it is text and no number
  std::vector<YamlNode> items;     ///< sequence
  std::vector<YamlEntry> entries;  ///< map, in the order of the file, keys unique

  /// The value of a key of a map, or null.
  const YamlNode* find(const std::string& key) const;
  YamlNode* find(const std::string& key);
};

/// One key of a map.
struct YamlEntry {
  std::string key;
  SourceMark mark;  ///< of the key
  YamlNode value;
};

/// The one document in `text`, aliases replaced by copies of what they name. Throws InputError,
/// with file, line and column, for text that is not UTF-8 or holds control characters, for syntax
/// errors, duplicate keys, keys that are no text, tags, no or several documents, and for more than
/// 32 levels or 100 000 values.
YamlNode parse_yaml(const std::string& text, const std::string& file);

/// "nothing", "a map", "a list", "text 'x'" (quoted) or "'x'", for messages.
std::string describe(const YamlNode& node);

/// Throws InputError at the mark.
[[noreturn]] void fail_at(const SourceMark& mark, const std::string& message);

}  // namespace dovetail
