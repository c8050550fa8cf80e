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

}  // namespace dovetail
