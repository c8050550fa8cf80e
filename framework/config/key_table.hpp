// The keys of one map of an experiment file as a table: each row says how a key is read, what it
// may hold, how the dump writes it and what people need to know. A struct of experiment.hpp lists
// its rows beside its fields; reading, dump, documents and tests follow from the rows.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/config/key_list.hpp"

namespace dovetail {

/// The rows that `S::list_keys` lists. Immutable.
template <class S>
class KeyTable {
 public:
  KeyTable() {
    KeyList<S> list;
    S::list_keys(list);
    keys_ = list.take();
  }

  const std::vector<KeyRow<S>>& keys() const { return keys_; }

  std::vector<std::string_view> names() const {
    std::vector<std::string_view> all;
    for (const KeyRow<S>& key : keys_) {
      all.push_back(key.name);
    }
    return all;
  }

  /// Infos of all keys; `prefix` is put in front of their paths.
  std::vector<KeyInfo> infos(const std::string& prefix) const {
    std::vector<KeyInfo> all;
    for (const KeyRow<S>& key : keys_) {
      for (KeyInfo info : key.infos) {
        if (info.is_required && !key.is_required) {
          info.is_required = false;
          info.default_text = "required in `" + key.name + "`";
        }
        info.key = prefix + info.key;
        all.push_back(std::move(info));
      }
    }
    return all;
  }

  /// A map with keys of names() only. Throws InputError.
  void read(const Located& value, S& out) const { read(MapReader(value, names()), out); }

  /// The rows' keys of a map that may have others.
  void read(const MapReader& map, S& out) const {
    for (const KeyRow<S>& key : keys_) {
      if (key.is_required) {
        const bool has_values = !key.infos.empty() && key.infos.front().key == key.name;
        map.at(key.name, has_values ? plain_text(key.infos.front().values) : "");
      }
      if (key.is_read_if_absent || map.has(key.name)) {
        key.read(map, out);
      }
    }
  }

  /// "{count: 8, length: 128}", with the keys of `names`.
  std::string write_one_line(const S& value, const std::vector<std::string_view>& names) const {
    std::string text;
    for (const KeyRow<S>& key : keys_) {
      if (std::find(names.begin(), names.end(), key.name) != names.end()) {
        text += (text.empty() ? "" : ", ") + key.name + ": " + key.write(value);
      }
    }
    return "{" + text + "}";
  }

  std::string write_one_line(const S& value) const {
    return write_one_line(value, dumped_names(value));
  }

  /// The keys that are written where nobody names others.
  std::vector<std::string_view> dumped_names(const S& value) const {
    std::vector<std::string_view> names;
    for (const KeyRow<S>& key : keys_) {
      if (!key.is_dumped || key.is_dumped(value)) {
        names.push_back(key.name);
      }
    }
    return names;
  }

  /// A line for each key.
  std::string write_lines(const S& value, const std::string& indent) const {
    return write_lines(value, indent, dumped_names(value));
  }

  /// A line for each key of `names`.
  std::string write_lines(const S& value,
                          const std::string& indent,
                          const std::vector<std::string_view>& names) const {
    std::string text;
    for (const KeyRow<S>& key : keys_) {
      if (std::find(names.begin(), names.end(), key.name) != names.end()) {
        const std::string written = key.write(value);
        text += indent + key.name + ":";
        text += written.starts_with('\n') ? written : " " + written + "\n";
      }
    }
    return text;
  }

 private:
  std::vector<KeyRow<S>> keys_;
};

template <class S>
const KeyTable<S>& keys_of() {
  static const KeyTable<S> table;
  return table;
}

}  // namespace dovetail
