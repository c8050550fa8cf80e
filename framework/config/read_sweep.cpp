#include "framework/config/read_sweep.hpp"

#include <algorithm>

#include "framework/base/text.hpp"
#include "framework/config/override.hpp"

namespace dovetail {
namespace {

bool contains_key(const std::string& outer, const std::string& inner) {
  return inner.starts_with(outer) &&
         (inner.size() == outer.size() || inner[outer.size()] == '.' || inner[outer.size()] == '[');
}

}  // namespace

bool selects_policies(const std::string& key) {
  return key == "policies";
}

bool keys_overlap(const std::string& one, const std::string& other) {
  return contains_key(one, other) || contains_key(other, one);
}

std::vector<LocatedAxis> read_sweep(const Located& value, const YamlNode& root) {
  if (value.is_word("none")) {
    return {};
  }
  if (value.node->kind != YamlNode::Kind::map || value.node->entries.empty()) {
    value.fail("none, or a map of keys, as --set takes them, to lists of values");
  }
  std::vector<LocatedAxis> axes;
  std::vector<std::string> paths;
  for (const YamlEntry& entry : value.node->entries) {
    const std::string where = value.path + "." + printable(entry.key);
    const std::string path = resolve_path(root, entry.key, entry.mark);
    for (const char* own : {"sweep", "experiment"}) {
      if (keys_overlap(path, own)) {
        fail_at(entry.mark, where + ": cannot be swept; allowed: any other key of an experiment");
      }
    }
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if (keys_overlap(path, paths[i]) && !selects_policies(path) && !selects_policies(paths[i])) {
        fail_at(entry.mark, where + ": is swept already, by '" + printable(axes[i].key) + "'");
      }
    }
    const Located list{&entry.value, where};
    const std::string expected = "a list of at least one value";
    if (list.items(expected).empty()) {
      list.fail(expected);
    }
    axes.push_back({entry.key, entry.mark, entry.value.items});
    paths.push_back(path);
  }
  return axes;
}

std::vector<std::string> read_policy_names(const Located& value) {
  const std::string expected = "the name of a policy, or a list of names";
  if (value.node->kind != YamlNode::Kind::sequence) {
    return {value.as_text(expected)};
  }
  std::vector<std::string> names;
  for (const Located& item : value.items(expected)) {
    names.push_back(item.as_text("the name of a policy"));
    if (std::count(names.begin(), names.end(), names.back()) > 1) {
      fail_at(item.node->mark, item.path + ": '" + printable(names.back()) + "' is there twice");
    }
  }
  if (names.empty()) {
    value.fail(expected);
  }
  return names;
}

}  // namespace dovetail
