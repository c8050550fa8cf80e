// The keys of an experiment file for people: `dovetail info --keys`, and the table in
// experiments/README.md.
#pragma once

#include <string>
#include <vector>

#include "framework/config/key_row.hpp"

namespace dovetail {

/// All keys, in the order of the dump. Execution keys are there once, not for policies again.
std::vector<KeyInfo> experiment_keys();

/// Whether a policy may state the key for itself: its own keys, and the execution keys that are not
/// the same for all policies.
bool can_be_in_policy(const KeyInfo& info);

/// A table of key, values, default and meaning, a line a key; below it the execution keys that a
/// policy cannot state for itself.
std::string write_keys_as_markdown();

/// For a terminal.
std::string write_keys_as_text();

/// A list of objects, one a key, with texts without Markdown.
std::string write_keys_as_json();

}  // namespace dovetail
