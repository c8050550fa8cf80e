// The axes of a sweep, from the key `sweep` of an experiment file.
#pragma once

#include <string>
#include <vector>

#include "framework/config/map_reader.hpp"

namespace dovetail {

/// One key of `sweep`, with the places that messages name.
struct LocatedAxis {
  std::string key;
  SourceMark mark;  ///< of the key
  std::vector<YamlNode> values;
};

/// `sweep: {KEY: [value, ...], ...}`, or `none`, of the experiment `root`. Throws InputError for a
/// key that is no key path, cannot be swept, or overlaps with another one (a policy by name and by
/// index is the same), and for an axis that is no list or empty.
std::vector<LocatedAxis> read_sweep(const Located& value, const YamlNode& root);

/// The axis `policies` chooses among them, while a longer key, policies.NAME.ubatches, changes one.
bool selects_policies(const std::string& key);

/// The policies that a value of the axis `policies` names: one name, or a list of different names.
std::vector<std::string> read_policy_names(const Located& value);

/// True where setting one key path changes what is at the other: "a.b" and "a.b.c", but not "a.bc".
/// Paths as resolve_path gives them.
bool keys_overlap(const std::string& one, const std::string& other);

}  // namespace dovetail
