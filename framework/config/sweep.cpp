#include "framework/config/sweep.hpp"

#include <algorithm>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/config/override.hpp"
#include "framework/config/yaml_text.hpp"
#include "framework/config/yaml_write.hpp"

namespace dovetail {
namespace {

constexpr const char* kSweepKey = "sweep";
constexpr const char* kPoliciesKey = "policies";

/// Takes the entry `sweep` out of the tree.
std::vector<LocatedAxis> take_axes(YamlNode& root) {
  const YamlNode* node = root.find(kSweepKey);
  if (node == nullptr) {
    return {};
  }
  auto axes = read_sweep({node, kSweepKey}, root);
  std::erase_if(root.entries, [](const YamlEntry& entry) { return entry.key == kSweepKey; });
  return axes;
}

void refuse_overridden(const YamlNode& root,
                       const std::vector<LocatedAxis>& axes,
                       const std::vector<std::string>& overrides) {
  for (const std::string& setting : overrides) {
    const SourceMark mark{"--set " + printable(setting), 0, 0};
    const std::string path = resolve_path(root, setting.substr(0, setting.find('=')), mark);
    for (const LocatedAxis& axis : axes) {
      if (!selects_policies(axis.key) &&
          keys_overlap(path, resolve_path(root, axis.key, axis.mark))) {
        fail_at(mark, "'" + printable(axis.key) + "' is swept; change its values in the sweep");
      }
    }
  }
}

/// --policy as an axis of one value.
LocatedAxis policies_axis(const std::vector<std::string>& names) {
  const SourceMark mark{"--policy", 0, 0};
  YamlNode value;
  value.kind = YamlNode::Kind::sequence;
  value.mark = mark;
  for (const std::string& name : names) {
    YamlNode item;
    item.kind = YamlNode::Kind::scalar;
    item.mark = mark;
    item.text = name;
    item.quoted = is_not_text(name);
    value.items.push_back(std::move(item));
  }
  return {kPoliciesKey, mark, {std::move(value)}};
}

std::size_t count_points(const std::vector<LocatedAxis>& axes) {
  std::size_t count = 1;
  for (const LocatedAxis& axis : axes) {
    count *= axis.values.size();
    if (count > Sweep::kMaxPoints) {
      fail_at(axis.mark,
              "the sweep has more than " + counted(Sweep::kMaxPoints, "point") +
                  "; allowed: that many combinations of values");
    }
  }
  return count;
}

void check_policy_names(const LoadedExperiment& loaded,
                        const std::vector<std::string>& names,
                        const SourceMark& mark) {
  std::vector<std::string> known;
  for (const PolicyConfig& policy : loaded.experiment.policies) {
    known.push_back(policy.name);
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      fail_at(mark,
              "unknown policy '" + printable(name) + "'; the experiment has: " + join_names(known));
    }
  }
}

}  // namespace

Sweep::Sweep(const std::string& text,
             const std::string& file,
             const std::vector<std::string>& overrides,
             const std::vector<std::string>& policies)
    : root_(parse_yaml(text, file)), policies_(policies) {
  for (const std::string& setting : overrides) {
    apply_override(root_, setting);
  }
  axes_ = take_axes(root_);
  refuse_overridden(root_, axes_, overrides);
  for (const LocatedAxis& axis : axes_) {
    if (axis.key != kPoliciesKey) {
      continue;
    }
    if (!policies.empty()) {
      fail_at({"--policy", 0, 0}, "the sweep has an axis 'policies'; choose there");
    }
    for (const YamlNode& value : axis.values) {
      read_policy_names({&value, std::string(kSweepKey) + "." + kPoliciesKey});
    }
  }
  if (is_sweep() && !policies.empty()) {
    axes_.push_back(policies_axis(policies));
  }
  num_points_ = count_points(axes_);
}

std::vector<std::size_t> Sweep::choices(std::size_t point) const {
  std::vector<std::size_t> result(axes_.size());
  for (std::size_t axis = axes_.size(); axis-- > 0;) {
    result[axis] = point % axes_[axis].values.size();
    point /= axes_[axis].values.size();
  }
  return result;
}

std::vector<std::string> Sweep::values(std::size_t point) const {
  const auto chosen = choices(point);
  std::vector<std::string> result;
  for (std::size_t axis = 0; axis < axes_.size(); ++axis) {
    result.push_back(write_yaml(axes_[axis].values[chosen[axis]]));
  }
  return result;
}

std::string Sweep::describe(std::size_t point) const {
  const auto own = values(point);
  std::string text;
  for (std::size_t axis = 0; axis < axes_.size(); ++axis) {
    text += (text.empty() ? "" : ", ") + printable(axes_[axis].key) + " = " + printable(own[axis]);
  }
  return "point " + std::to_string(point) + " of the sweep (" + text + ")";
}

std::vector<std::string> Sweep::policies(std::size_t point) const {
  const auto chosen = choices(point);
  for (std::size_t axis = 0; axis < axes_.size(); ++axis) {
    if (axes_[axis].key == kPoliciesKey) {
      return read_policy_names({&axes_[axis].values[chosen[axis]], kPoliciesKey});
    }
  }
  return policies_;
}

LoadedExperiment Sweep::load(std::size_t point) const {
  try {
    YamlNode tree = root_;
    SourceMark names_mark{"--policy", 0, 0};
    const auto chosen = choices(point);
    for (std::size_t axis = 0; axis < axes_.size(); ++axis) {
      const YamlNode& value = axes_[axis].values[chosen[axis]];
      if (axes_[axis].key == kPoliciesKey) {
        names_mark = value.mark;
      } else {
        set_value(tree, axes_[axis].key, value, axes_[axis].mark);
      }
    }
    auto loaded = read_tree(tree);
    check_policy_names(loaded, policies(point), names_mark);
    return loaded;
  } catch (const InputError& error) {
    throw is_sweep() ? InputError(std::string(error.what()) + " (" + describe(point) + ")") : error;
  }
}

std::string Sweep::text() const {
  YamlNode tree = root_;
  YamlNode sweep;
  sweep.kind = YamlNode::Kind::map;
  for (const LocatedAxis& axis : axes_) {
    YamlNode list;
    list.kind = YamlNode::Kind::sequence;
    list.items = axis.values;
    sweep.entries.push_back({axis.key, axis.mark, std::move(list)});
  }
  tree.entries.push_back({kSweepKey, {}, std::move(sweep)});
  return write_yaml_document(tree);
}

}  // namespace dovetail
