#include "framework/base/input_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "framework/base/error.hpp"
#include "framework/base/working_folder.hpp"

namespace dovetail {

// O_NONBLOCK keeps a pipe without a writer from holding up the caller; regular files ignore it. The
// delegation lets the destructor close what is open when the rest of this constructor throws.
InputFile::InputFile(const std::string& path, std::string_view allowed)
    : InputFile(path, allowed, ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
  struct stat status {};

  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    fail_with_errno();
  }
  if (!S_ISREG(status.st_mode)) {
    fail("not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void InputFile::fail_with_errno() const {
  const int error = errno;
  const auto note = error == ENOENT ? working_folder_note(path_) : "";
  fail(std::generic_category().message(error) + note);
}

void InputFile::fail(const std::string& reason) const {
  throw InputError(path_, 0, 0, "cannot be opened or read: " + reason + "; allowed: " + allowed_);
}

}  // namespace dovetail
