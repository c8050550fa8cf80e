// `--set key.path=value`: changes of the tree before it is read.
#pragma once

#include <string>

#include "framework/config/yaml_tree.hpp"

namespace dovetail {

/// Sets one value in the tree. `setting` is "key.path=value": keys separated by points, list items
/// as [i] from 0, policies also by name ("policies.dual_batch.ubatches=4"); the value is YAML.
/// Missing maps on the way are made. Marks of what it sets read "--set key.path=value". Throws
/// InputError that begins with these words.
void apply_override(YamlNode& root, const std::string& setting);

/// Sets one value in the tree; `path` as before the '=' of a setting. The value keeps its marks.
/// Throws InputError at `mark` where the path is none or leads nowhere.
void set_value(YamlNode& root, const std::string& path, YamlNode value, const SourceMark& mark);

/// The path as set_value follows it in `root`, in one spelling: policies by their index. A name
/// that no policy has stays. Throws InputError at `mark` where the path is none.
std::string resolve_path(const YamlNode& root, const std::string& path, const SourceMark& mark);

}  // namespace dovetail
