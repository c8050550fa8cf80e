// A whole text file, bounded in size.
#pragma once

#include <cstddef>
#include <string>

namespace dovetail {

/// The bytes of a file. Throws InputError "<path>: cannot be opened or read; allowed: <what>", also
/// for files of more than max_bytes.
std::string read_text_file(const std::string& path, std::size_t max_bytes, const std::string& what);

}  // namespace dovetail
