#include "framework/config/yaml_write.hpp"

#include <algorithm>

#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

using Kind = YamlNode::Kind;

std::string write_scalar(const YamlNode& node) {
  if (!node.quoted && is_not_text(node.text)) {
    return node.text;  // a number or a truth value stays one
  }
  const std::string text = write_text(node.text);
  return node.quoted && text.front() != '"' ? "\"" + text + "\"" : text;
}

/// Entries or items, each through `write`, with commas between.
template <class Range, class Write>
std::string join(const Range& range, Write write) {
  std::string text;
  for (const auto& one : range) {
    text += (text.empty() ? "" : ", ") + write(one);
  }
  return text;
}

bool is_list_of_maps(const YamlNode& node) {
  return node.kind == Kind::sequence && !node.items.empty() &&
         std::all_of(node.items.begin(), node.items.end(), [](const YamlNode& item) {
           return item.kind == Kind::map;
         });
}

}  // namespace

std::string write_yaml(const YamlNode& node) {
  switch (node.kind) {
    case Kind::null:
      return "null";
    case Kind::scalar:
      return write_scalar(node);
    case Kind::sequence:
      return "[" + join(node.items, write_yaml) + "]";
    case Kind::map:
      return "{" +
             join(node.entries,
                  [](const YamlEntry& entry) {
                    return write_text(entry.key) + ": " + write_yaml(entry.value);
                  }) +
             "}";
  }
  return "";
}

std::string write_yaml_document(const YamlNode& root) {
  std::string text;
  for (const YamlEntry& entry : root.entries) {
    const YamlNode& value = entry.value;
    text += write_text(entry.key) + ":";
    if (value.kind == Kind::map && !value.entries.empty()) {
      text += "\n";
      for (const YamlEntry& inner : value.entries) {
        text += "  " + write_text(inner.key) + ": " + write_yaml(inner.value) + "\n";
      }
    } else if (is_list_of_maps(value)) {
      text += "\n";
      for (const YamlNode& item : value.items) {
        text += "  - " + write_yaml(item) + "\n";
      }
    } else {
      text += " " + write_yaml(value) + "\n";
    }
  }
  return text;
}

}  // namespace dovetail
