#include "framework/base/text_file.hpp"

#include <cerrno>
#include <unistd.h>

#include "framework/base/error.hpp"
#include "framework/base/input_file.hpp"

namespace dovetail {
namespace {

/// Appends what one call of the system reads, at most `max_bytes`; false at the end of the file.
bool read_some(const InputFile& file, std::size_t max_bytes, std::string& text) {
  const std::size_t before = text.size();
  text.resize(before + max_bytes);
  ssize_t count = -1;
  do {
    count = ::read(file.descriptor(), text.data() + before, max_bytes);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    file.fail_with_errno();
  }
  text.resize(before + static_cast<std::size_t>(count));
  return count > 0;
}

}  // namespace

std::string read_text_file(const std::string& path, const TextFileKind& kind) {
  constexpr std::size_t block = std::size_t{1} << 16U;
  const InputFile file(path, kind.name);
  std::string text;
  if (file.size() <= kind.max_bytes) {
    text.reserve(static_cast<std::size_t>(file.size()) + block);
    while (text.size() <= kind.max_bytes && read_some(file, block, text)) {
    }
  }
  if (file.size() > kind.max_bytes || text.size() > kind.max_bytes) {
    throw InputError(path,
                     0,
                     0,
                     "larger than " + std::to_string(kind.max_bytes / kMebibyte) +
                         " MiB; allowed: " + std::string(kind.name));
  }
  return text;
}

}  // namespace dovetail
