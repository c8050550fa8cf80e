#include "framework/base/text_file.hpp"

#include <fstream>

#include "framework/base/error.hpp"

namespace dovetail {

std::string read_text_file(const std::string& path,
                           std::size_t max_bytes,
                           const std::string& what) {
  std::ifstream stream(path, std::ios::binary);
  std::string text;
  std::string block(std::size_t{1} << 16U, '\0');
  while (stream.good() && text.size() <= max_bytes) {
    stream.read(block.data(), static_cast<std::streamsize>(block.size()));
    text.append(block, 0, static_cast<std::size_t>(stream.gcount()));
  }
  if (text.size() > max_bytes) {
    throw InputError(
        path, 0, 0, "larger than " + std::to_string(max_bytes >> 20U) + " MiB; allowed: " + what);
  }
  if (!stream.eof()) {
    throw InputError(path, 0, 0, "cannot be opened or read; allowed: " + what);
  }
  return text;
}

}  // namespace dovetail
