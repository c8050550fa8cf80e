// A temporary folder of its own, for benchmarks and tests.
#pragma once

#include <filesystem>

namespace dovetail {

/// Makes a folder with a fresh name in `parent` (empty = the system's folder for temporary files)
/// and removes it with all that is in it at the end. Not movable. Throws RunError where it cannot
/// be made.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::filesystem::path& parent = {});
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ScratchFolder(ScratchFolder&&) = delete;
  ScratchFolder& operator=(ScratchFolder&&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace dovetail
