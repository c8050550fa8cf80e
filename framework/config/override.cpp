#include "framework/config/override.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

/// One step of a key path: a key, or an index in brackets.
struct PathStep {
  std::string key;
  std::optional<std::size_t> index;
};

std::vector<PathStep> parse_path(std::string_view path, const SourceMark& mark) {
  std::vector<PathStep> steps;
  const auto fail = [&mark]() {
    fail_at(mark, "not a key path; allowed: keys with points between, list items as [0]");
  };
  bool wants_key = true;
  while (!path.empty() || wants_key) {
    if (path.starts_with('[') && !steps.empty() && !wants_key) {
      const std::size_t end = path.find(']');
      const auto index =
          end == std::string_view::npos ? std::nullopt : parse_unsigned(path.substr(1, end - 1));
      if (!index) {
        fail();
      }
      steps.push_back({"", *index});
      path.remove_prefix(end + 1);
    } else if (wants_key) {
      const std::size_t end = std::min(path.find_first_of(".["), path.size());
      if (end == 0) {
        fail();
      }
      steps.push_back({std::string(path.substr(0, end)), std::nullopt});
      path.remove_prefix(end);
      wants_key = false;
    } else if (path.starts_with('.')) {
      path.remove_prefix(1);
      wants_key = true;
    } else {
      fail();
    }
  }
  return steps;
}

YamlNode& item_at(YamlNode& list,
                  std::size_t index,
                  const std::string& at,
                  const SourceMark& mark) {
  if (list.kind != YamlNode::Kind::sequence) {
    fail_at(mark, at + " is " + describe(list) + ", not a list");
  }
  if (index >= list.items.size()) {
    fail_at(mark, at + " has " + counted(std::ssize(list.items), "item") + ", counted from 0");
  }
  return list.items[index];
}

/// Of the policies' list; nothing where no policy has the name.
std::optional<std::size_t> index_of_policy(const YamlNode& policies, const std::string& name) {
  for (std::size_t i = 0; i < policies.items.size(); ++i) {
    const YamlNode* own = policies.items[i].find("name");
    if (own != nullptr && own->text == name) {
      return i;
    }
  }
  return std::nullopt;
}

YamlNode& policy_named(YamlNode& policies, const std::string& name, const SourceMark& mark) {
  if (const auto index = index_of_policy(policies, name)) {
    return policies.items[*index];
  }
  std::vector<std::string> known;
  for (const YamlNode& policy : policies.items) {
    if (const YamlNode* own = policy.find("name")) {
      known.push_back(printable(own->text));
    }
  }
  fail_at(mark, "unknown policy '" + printable(name) + "'; known: " + join_names(known));
}

YamlNode& entry_at(YamlNode& map,
                   const std::string& key,
                   const std::string& at,
                   const SourceMark& mark) {
  if (map.kind == YamlNode::Kind::null) {
    map.kind = YamlNode::Kind::map;
    map.mark = mark;
  }
  if (map.kind != YamlNode::Kind::map) {
    fail_at(mark, at + " is " + describe(map) + ", not a map");
  }
  if (YamlNode* found = map.find(key)) {
    return *found;
  }
  map.entries.push_back({key, mark, YamlNode{}});
  map.entries.back().value.mark = mark;
  return map.entries.back().value;
}

void set_marks(YamlNode& node, const SourceMark& mark) {
  node.mark = mark;
  for (YamlNode& item : node.items) {
    set_marks(item, mark);
  }
  for (YamlEntry& entry : node.entries) {
    entry.mark = mark;
    set_marks(entry.value, mark);
  }
}

}  // namespace

void apply_override(YamlNode& root, const std::string& setting) {
  const SourceMark mark{"--set " + printable(setting), 0, 0};
  const std::size_t equals = setting.find('=');
  if (equals == std::string::npos) {
    fail_at(mark, "no '='; allowed: key.path=value");
  }
  YamlNode value = parse_yaml(setting.substr(equals + 1), mark.file);
  set_marks(value, mark);
  set_value(root, setting.substr(0, equals), std::move(value), mark);
}

void set_value(YamlNode& root, const std::string& path, YamlNode value, const SourceMark& mark) {
  YamlNode* node = &root;
  std::string at;  // the path so far
  for (const PathStep& step : parse_path(path, mark)) {
    if (step.index) {
      node = &item_at(*node, *step.index, at, mark);
      at += "[" + std::to_string(*step.index) + "]";
    } else {
      node = at == "policies" && node->kind == YamlNode::Kind::sequence
                 ? &policy_named(*node, step.key, mark)
                 : &entry_at(*node, step.key, at.empty() ? "the experiment" : at, mark);
      at += (at.empty() ? "" : ".") + step.key;
    }
  }
  *node = std::move(value);
}

std::string resolve_path(const YamlNode& root, const std::string& path, const SourceMark& mark) {
  const YamlNode* policies = root.find("policies");
  std::string resolved;
  for (const PathStep& step : parse_path(path, mark)) {
    auto index = step.index;
    if (resolved == "policies" && !index && policies != nullptr) {
      index = index_of_policy(*policies, step.key);
    }
    resolved +=
        index ? "[" + std::to_string(*index) + "]" : (resolved.empty() ? "" : ".") + step.key;
  }
  return resolved;
}

}  // namespace dovetail
