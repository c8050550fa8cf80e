// One run at a time writes into a result folder.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>

namespace dovetail {

/// What a folder holds while a run writes into it. A killed run leaves it, which hinders nobody.
inline constexpr const char* kLockFileName = ".lock";

/// flock(descriptor, LOCK_EX | LOCK_NB) as 0 or an errno.
using LockCall = std::function<int(int descriptor)>;

int lock_file(int descriptor);

/// Whether another owner, or another FolderLock of this process, has the folder's lock.
bool is_locked(const std::filesystem::path& folder);

/// Keeps other processes, also on other hosts that share the folder, from writing into it. The lock
/// is on a file in the folder, since NFS and Lustre lock files only. The system drops it when the
/// process ends, however that is; the file is removed when this goes. Move-only.
class FolderLock {
 public:
  /// Of an existing folder. Throws InputError that names folder and owner where another one still
  /// has it after `patience` (is_locked takes it for microseconds), or where the file cannot be
  /// made. Where the file system has no locks, says so on stderr and goes on without.
  explicit FolderLock(const std::filesystem::path& folder,
                      const LockCall& lock = lock_file,
                      std::chrono::milliseconds patience = std::chrono::milliseconds(100));

  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  void release() noexcept;

  std::filesystem::path file_;
  int descriptor_ = -1;  ///< open as long as the lock is held; -1 = moved from
};

}  // namespace dovetail
