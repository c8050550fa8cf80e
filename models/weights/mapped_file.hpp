// A file mapped read-only into memory: what the checkpoint reader copies from.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace dovetail {

/// Move-only owner of a read-only mapping. Addresses stay the same when it moves. Reading is safe
/// from any thread; a file that another process cuts while it is mapped ends this one by SIGBUS.
class MappedFile {
 public:
  /// Maps the whole of a regular file. Throws InputError naming the path and the system's reason.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }

  std::span<const std::byte> bytes() const { return {begin_, size_}; }

  /// Asks the system to start reading `range` (part of bytes()) from disk.
  void prefetch(std::span<const std::byte> range) const noexcept;

  /// Gives the pages of `range` back, so that they do not count as this process's memory; reading
  /// them again is legal and costs time only.
  void release(std::span<const std::byte> range) const noexcept;

 private:
  void advise(std::span<const std::byte> range, int advice) const noexcept;

  std::string path_;
  const std::byte* begin_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace dovetail
