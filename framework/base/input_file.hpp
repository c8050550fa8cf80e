// The one way to a file that others made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dovetail {

/// An open regular file: owner of its descriptor.
class InputFile {
 public:
  /// Opens for reading, without ever waiting: a pipe, a device or a folder of that name is an error
  /// at once. Throws InputError "<path>: cannot be opened or read: <reason>; allowed: <allowed>".
  InputFile(const std::string& path, std::string_view allowed);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  InputFile(InputFile&&) = delete;
  InputFile& operator=(InputFile&&) = delete;

  int descriptor() const { return descriptor_; }

  /// Bytes when it was opened. It may grow, and files of /proc say 0.
  std::uint64_t size() const { return size_; }

  /// Throws the InputError of the constructor, for what the system refused last (errno).
  [[noreturn]] void fail_with_errno() const;

 private:
  InputFile(const std::string& path, std::string_view allowed, int descriptor)
      : path_(path), allowed_(allowed), descriptor_(descriptor) {}

  [[noreturn]] void fail(const std::string& reason) const;

  std::string path_;
  std::string allowed_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace dovetail
