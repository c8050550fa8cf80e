// What a message says of a path that does not exist, for whom another folder was meant.
#pragma once

#include <filesystem>
#include <string>

namespace dovetail {

/// Of a relative path: " (relative paths count from the working directory, /home/me)"; of an
/// absolute one nothing. Never throws for a working directory that is gone.
std::string working_folder_note(const std::filesystem::path& path);

}  // namespace dovetail
