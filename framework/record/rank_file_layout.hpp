// The layout of a rank file before the first iteration: everything in its final place.
#pragma once

#include <filesystem>

#include "framework/record/schema.hpp"

namespace dovetail {

/// Builds the file under another name, closes it, and only then gives it its own: a process that is
/// killed in between leaves no file that cannot be read. Closing also trims the file to its final
/// length, so that nothing but the status changes its metadata later. InputError
/// where there is a file of either name.
void create_rank_file(const std::filesystem::path& path, const RankFileSpec& spec);

}  // namespace dovetail
