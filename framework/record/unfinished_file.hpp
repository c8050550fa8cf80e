// A file that appears under its name only when it is whole: written under another name beside it,
// then renamed. Also on file systems without hard links (vfat, cloud buckets, some CIFS).
#pragma once

#include <filesystem>
#include <functional>
#include <utility>

namespace dovetail {

/// The calls of the operating system that give a file a name which must be new. Each returns 0 or
/// an errno; EEXIST where the name is taken.
struct NamingCalls {
  using Call = std::function<int(const char* from, const char* to)>;
  Call rename_new;  ///< renameat2 with RENAME_NOREPLACE
  Call link;

  static NamingCalls of_system();
};

/// Owns the name of a file under construction: what is there when this goes is removed, whether the
/// work on it succeeded or not. Makes no file itself. Immovable.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(std::filesystem::path path) : path_(std::move(path)) {}

  ~UnfinishedFile();
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  UnfinishedFile(UnfinishedFile&&) = delete;
  UnfinishedFile& operator=(UnfinishedFile&&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Gives the closed file its name, which must be new: InputError "exists" where it is taken,
  /// RunError where it cannot be given. Renames without replacing; where the file system cannot,
  /// makes a hard link; where it can neither, claims the name with an empty file, which fails where
  /// one is there, and renames over that. A process that is killed between these two leaves the
  /// empty file and the finished one under its unfinished name; a reader refuses the first by name,
  /// and nothing overwrites either.
  void publish_new(const std::filesystem::path& to,
                   const NamingCalls& calls = NamingCalls::of_system());

  /// Gives the closed file its name and replaces an older file. RunError where that fails.
  void replace(const std::filesystem::path& to);

 private:
  std::filesystem::path path_;
  bool is_renamed_ = false;
};

/// A name beside `path` for the file that is to replace it, another one in each process.
std::filesystem::path unfinished_name(const std::filesystem::path& path);

/// InputError "<path>: exists; results are never overwritten".
[[noreturn]] void refuse_existing(const std::filesystem::path& path);

}  // namespace dovetail
