// A tree of YAML values as text that reads back as an equal tree.
#pragma once

#include <string>

#include "framework/config/yaml_tree.hpp"

namespace dovetail {

/// One line, in flow style: "{count: 4, length: 128}".
std::string write_yaml(const YamlNode& node);

/// A document of a map: a line for each key, and for each entry of its maps and each item of its
/// lists of maps. Comments are gone. Ends with a line end.
std::string write_yaml_document(const YamlNode& root);

}  // namespace dovetail
