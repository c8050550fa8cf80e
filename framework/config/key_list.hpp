// How a struct of an experiment lists its keys: the kinds of rows that there are. Used by the
// `list_keys` beside the fields; the finished table is key_table.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/base/enum_names.hpp"
#include "framework/base/registry.hpp"
#include "framework/config/key_row.hpp"
#include "framework/config/write_value.hpp"

namespace dovetail {

template <class S>
class KeyTable;

/// The table of S, made once.
template <class S>
const KeyTable<S>& keys_of();

/// Rows in the order in which they are read and dumped. Each function adds one and returns it for
/// more to be said of it. Rows without help are not documented.
template <class S>
class KeyList {
 public:
  /// How the dump writes a map.
  enum class Style { one_line, a_line_a_key };

  /// Text of one line; `expected` names it in messages: "the name of a policy".
  KeyRow<S>& text(std::string name,
                  std::string S::*member,
                  const std::string& expected,
                  const std::string& help = "") {
    return add(
        std::move(name),
        [member, expected](const Located& value, S& out) { out.*member = value.as_text(expected); },
        write_member(member),
        {.values = expected, .examples = {"some_text"}, .help = help});
  }

  template <std::signed_integral Int>
  KeyRow<S>& whole(std::string name,
                   Int S::*member,
                   std::int64_t min,
                   std::int64_t max,
                   const std::string& help = "") {
    return add(
        std::move(name),
        [member, min, max](const Located& value, S& out) {
          out.*member = static_cast<Int>(value.as_int(min, max));
        },
        write_member(member),
        range("whole number", min, max, help));
  }

  /// Any whole number of 64 bits without a sign.
  KeyRow<S>& seed(std::string name, std::uint64_t S::*member, const std::string& help = "") {
    return add(
        std::move(name),
        [member](const Located& value, S& out) { out.*member = value.as_unsigned(); },
        write_member(member),
        range("whole number", std::uint64_t{0}, ~std::uint64_t{0}, help));
  }

  KeyRow<S>& number(
      std::string name, double S::*member, double min, double max, const std::string& help = "") {
    return add(
        std::move(name),
        [member, min, max](const Located& value, S& out) {
          out.*member = value.as_number(min, max);
        },
        write_member(member),
        range("number", min, max, help));
  }

  KeyRow<S>& truth(std::string name, bool S::*member, const std::string& help = "") {
    return add(std::move(name),
               [member](const Located& value, S& out) { out.*member = value.as_truth(); },
               write_member(member),
               {.values = "`true`, `false`", .examples = {"true", "false"}, .help = help});
  }

  /// `auto`, which is nothing, or an ascending list of whole numbers.
  KeyRow<S>& auto_or_ascending(std::string name,
                               std::optional<std::vector<std::int64_t>> S::*member,
                               std::int64_t min,
                               std::int64_t max,
                               const std::string& help) {
    const std::string first = write_value(min);
    const std::string last = write_value(max);
    return add(
        std::move(name),
        [member, min, max](const Located& value, S& out) {
          out.*member = value.as_auto_or_ascending(min, max);
        },
        [member](const S& value) {
          return value.*member ? write_value(*(value.*member)) : std::string("auto");
        },
        {.values = "`auto` or an ascending list of whole numbers from " + first + " to " + last,
         .examples = {"[" + first + "]", "[" + first + ", " + last + "]"},
         .help = help});
  }

  /// One of an enum's names.
  template <NamedEnum Enum>
  KeyRow<S>& one_of(std::string name, Enum S::*member, const std::string& help = "") {
    const auto all = names<Enum>();
    return one_of_names(std::move(name), member, {all.begin(), all.end()}, help);
  }

  template <NamedEnum Enum>
  KeyRow<S>& one_of(std::string name,
                    Enum S::*member,
                    std::initializer_list<Enum> allowed,
                    const std::string& help = "") {
    std::vector<std::string_view> all;
    for (const Enum value : allowed) {
      all.push_back(to_string(value));
    }
    return one_of_names(std::move(name), member, all, help);
  }

  /// A map with a table of its own.
  template <class Inner>
  KeyRow<S>& map(std::string name, Inner S::*member, Style style = Style::one_line) {
    auto& key = add(
        std::move(name),
        [member](const Located& value, S& out) { keys_of<Inner>().read(value, out.*member); },
        [member, style](const S& value) { return write_map(value.*member, style); },
        {});
    return document_map<Inner>(key, key.name + ".");
  }

  /// The same; `none` is a map that states nothing, whatever it requires.
  template <class Inner>
  KeyRow<S>& map_or_none(std::string name, Inner S::*member, Style style = Style::one_line) {
    auto& key = map(std::move(name), member, style);
    key.read = [member, name = key.name, read = key.read](const MapReader& map, S& out) {
      if (map.at(name).is_word("none")) {
        out.*member = Inner();
      } else {
        read(map, out);
      }
    };
    return key;
  }

  /// `none`, or a map with a table of its own.
  template <class Inner>
  KeyRow<S>& map(std::string name,
                 std::optional<Inner> S::*member,
                 const std::string& help,
                 Style style = Style::one_line) {
    auto& key = add(
        std::move(name),
        [member](const Located& value, S& out) {
          (out.*member).reset();
          if (!value.is_word("none")) {
            keys_of<Inner>().read(value, (out.*member).emplace());
          }
        },
        [member, style](const S& value) {
          return value.*member ? write_map(*(value.*member), style) : "none";
        },
        {.values = "`none`, or a map", .examples = {"none"}, .help = help});
    return document_map<Inner>(key, key.name + ".");
  }

  /// `none`, a map with the table of Item, or a list of such maps.
  template <class Item>
  KeyRow<S>& maps(std::string name, std::vector<Item> S::*member, const std::string& help) {
    auto& key = add(
        std::move(name),
        [member](const Located& value, S& out) {
          (out.*member).clear();
          if (value.is_word("none")) {
            return;
          }
          const bool is_list = value.node->kind == YamlNode::Kind::sequence;
          for (const Located& one : is_list ? value.items("a list of maps") : std::vector{value}) {
            keys_of<Item>().read(one, (out.*member).emplace_back());
          }
        },
        [member](const S& value) {
          const std::vector<Item>& items = value.*member;
          if (items.size() == 1) {
            return write_map(items.front(), Style::a_line_a_key);
          }
          std::string text = items.empty() ? "none" : "\n";
          for (const Item& item : items) {
            text += "  - " + write_map(item, Style::one_line) + "\n";
          }
          return text;
        },
        {.values = "`none`, a map, or a list of maps", .examples = {"none"}, .help = help});
    return document_map<Item>(key, key.name + ".");
  }

  /// A key with functions of its own, for values that none of the other kinds fits.
  KeyRow<S>& coded(std::string name,
                   void (*read)(const MapReader& map, S& out),
                   std::string (*write)(const S& value),
                   const std::string& values,
                   const std::vector<std::string>& examples,
                   const std::string& help) {
    auto& key = add(
        std::move(name), nullptr, write, {.values = values, .examples = examples, .help = help});
    key.read = read;
    return key;
  }

  /// A list, read and written by functions of its own, of maps of the table of Item.
  template <class Item>
  KeyRow<S>& list(std::string name,
                  std::vector<Item> S::* /*member*/,
                  void (*read)(const MapReader& map, S& out),
                  std::string (*write)(const S& value)) {
    auto& key = add(std::move(name), nullptr, write, {});
    key.read = read;
    return document_map<Item>(key, key.name + "[].");
  }

  /// The rows of another table, for the keys of a member that stand in the same map. They are
  /// documented there.
  template <class Inner>
  void include(Inner S::*member) {
    for (const KeyRow<Inner>& key : keys_of<Inner>().keys()) {
      auto& own = add(key.name,
                      nullptr,
                      [&key, member](const S& value) { return key.write(value.*member); },
                      {});
      own.read = [&key, member](const MapReader& map, S& out) { key.read(map, out.*member); };
      if (key.is_dumped) {
        own.is_dumped = [&key, member](const S& value) { return key.is_dumped(value.*member); };
      }
    }
  }

  std::vector<KeyRow<S>> take() { return std::move(keys_); }

 private:
  KeyRow<S>& add(std::string name,
                 std::function<void(const Located&, S&)> read,
                 std::function<std::string(const S&)> write,
                 KeyInfo info) {
    KeyRow<S> key;
    key.name = name;
    key.read = [name, read = std::move(read)](const MapReader& map, S& out) {
      read(map.at(name), out);
    };
    key.write = std::move(write);
    if (!info.help.empty()) {
      info.key = std::move(name);
      info.default_value = key.write(S());
      key.infos.push_back(std::move(info));
    }
    keys_.push_back(std::move(key));
    return keys_.back();
  }

  template <class Value>
  static std::function<std::string(const S&)> write_member(Value S::*member) {
    return [member](const S& value) { return write_value(value.*member); };
  }

  template <class Enum>
  KeyRow<S>& one_of_names(std::string name,
                          Enum S::*member,
                          const std::vector<std::string_view>& allowed,
                          const std::string& help) {
    return add(std::move(name),
               [member, allowed](const Located& value, S& out) {
                 out.*member = *parse<Enum>(value.as_name(allowed));
               },
               write_member(member),
               {.values = "`" + join_names(allowed, "`, `") + "`",
                .examples = {allowed.begin(), allowed.end()},
                .help = help});
  }

  template <class Number>
  static KeyInfo range(const std::string& kind, Number min, Number max, const std::string& help) {
    const std::string first = write_value(min);
    const std::string last = write_value(max);
    return {
        .values = kind + " from " + first + " to " + last, .examples = {first, last}, .help = help};
  }

  template <class Inner>
  static std::string write_map(const Inner& value, Style style) {
    return style == Style::one_line ? keys_of<Inner>().write_one_line(value)
                                    : "\n" + keys_of<Inner>().write_lines(value, "  ");
  }

  template <class Inner>
  static KeyRow<S>& document_map(KeyRow<S>& key, const std::string& prefix) {
    for (KeyInfo& info : keys_of<Inner>().infos(prefix)) {
      key.infos.push_back(std::move(info));
    }
    return key;
  }

  std::vector<KeyRow<S>> keys_;
};

}  // namespace dovetail
