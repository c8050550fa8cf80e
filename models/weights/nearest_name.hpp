// Which tensor of a checkpoint may be meant by a name that none has.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace dovetail {

/// The tensor, quoted, whose name shares most with one of `wanted` at both ends; `files` has the
/// names of all tensors and of their files.
std::string nearest_name(const std::map<std::string, std::string>& files,
                         const std::vector<std::string>& wanted);

}  // namespace dovetail
