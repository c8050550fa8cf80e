// Versions of everything, compiled and loaded, for `dovetail info` and for the record.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace dovetail {

/// Name and value, in the order of printing.
std::vector<std::pair<std::string, std::string>> all_versions();

}  // namespace dovetail
