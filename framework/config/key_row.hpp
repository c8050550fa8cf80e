// One row of a table of keys (key_table.hpp).
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "framework/config/map_reader.hpp"

namespace dovetail {

/// The Markdown of a key's texts without its marks.
inline std::string plain_text(std::string markdown) {
  std::erase(markdown, '`');
  return markdown;
}

/// What people need to know of a key. The texts are Markdown.
struct KeyInfo {
  std::string key;                    ///< path: "policies[].split"
  std::string values;                 ///< what it may hold
  std::vector<std::string> examples;  ///< legal values as the dump writes them: both ends of a
                                      ///< range, all names of a choice
  std::string default_value;          ///< as the dump writes it; empty where it is none
  std::string default_text;           ///< where there is no default value: what holds then
  std::string help;
  bool is_required = false;
  bool is_same_in_all_policies = false;  ///< of execution keys
};

/// A row of the table of the struct S.
template <class S>
struct KeyRow {
  std::string name;
  /// Reads the value of the key, which is in the map. Throws InputError.
  std::function<void(const MapReader&, S&)> read;
  /// YAML in one line; for a map of a line a key: a line end and these lines.
  std::function<std::string(const S&)> write;
  std::vector<KeyInfo> infos;  ///< of the key, unless it has no help, and of the keys in its map
  bool is_required = false;
  bool is_read_if_absent = false;
  bool is_same_in_all_policies = false;
  bool is_own_of_a_stage = false;
  std::function<bool(const S&)> is_dumped;  ///< empty = always

  /// An error where the key is absent.
  KeyRow& required() {
    is_required = true;
    if (!infos.empty() && infos.front().key == name) {
      infos.front().is_required = true;
      infos.front().default_value.clear();
    }
    return *this;
  }

  /// `read` asks for itself whether the key is there.
  KeyRow& read_if_absent() {
    is_read_if_absent = true;
    return *this;
  }

  /// A policy cannot override it.
  KeyRow& same_in_all_policies() {
    is_same_in_all_policies = true;
    infos.front().is_same_in_all_policies = true;
    return *this;
  }

  /// The stages of a pipeline may differ in it.
  KeyRow& own_of_a_stage() {
    is_own_of_a_stage = true;
    return *this;
  }

  KeyRow& dumped_if(std::function<bool(const S&)> condition) {
    is_dumped = std::move(condition);
    return *this;
  }

  /// Words for what holds where the key is absent, instead of the struct's default.
  KeyRow& default_is(std::string text) {
    infos.front().default_value.clear();
    infos.front().default_text = std::move(text);
    return *this;
  }

  /// Words for what the key may hold, where more can be said than by its type.
  KeyRow& holds(std::string values) {
    infos.front().values = std::move(values);
    return *this;
  }
};

}  // namespace dovetail
