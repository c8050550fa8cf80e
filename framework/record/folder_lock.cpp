#include "framework/record/folder_lock.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// "process 123 on host a"
std::string own_name() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return "process " + std::to_string(::getpid()) + " on host " + host.data();
}

/// What the owner has written, or nothing.
std::string owner_of(int descriptor) {
  std::array<char, 256> text{};
  const auto count = ::pread(descriptor, text.data(), text.size(), 0);
  return count > 0 ? printable(std::string_view(text.data(), static_cast<std::size_t>(count)), 200)
                   : "";
}

/// Whether the path still names the file that is open: its owner may have removed it in between.
bool is_file_of(const fs::path& path, int descriptor) {
  struct stat open {};

  struct stat named {};

  return ::fstat(descriptor, &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open.st_ino == named.st_ino && open.st_dev == named.st_dev;
}

bool says_no_locks(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
}

}  // namespace

int lock_file(int descriptor) {
  int result = -1;
  do {
    result = ::flock(descriptor, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

bool is_locked(const fs::path& folder) {
  const int descriptor = ::open((folder / kLockFileName).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  const bool locked = descriptor >= 0 && lock_file(descriptor) == EWOULDBLOCK;
  ::close(descriptor);
  return locked;
}

FolderLock::FolderLock(const fs::path& folder,
                       const LockCall& lock,
                       std::chrono::milliseconds patience)
    : file_(folder / kLockFileName) {
  const auto fail = [&](const std::string& problem) {
    ::close(std::exchange(descriptor_, -1));
    throw InputError(folder.string() + ": " + problem);
  };
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) {
      throw InputError(file_.string() +
                       ": cannot be made: " + std::generic_category().message(errno));
    }
    const int error = lock(descriptor_);
    if (error == EWOULDBLOCK && std::chrono::steady_clock::now() < deadline) {
      ::close(std::exchange(descriptor_, -1));
      ::usleep(10'000);
      continue;
    }
    if (error == EWOULDBLOCK) {
      const auto owner = owner_of(descriptor_);
      fail("another run is writing into this folder" + (owner.empty() ? "" : " (" + owner + ")") +
           "; wait for its end, or name another folder");
    }
    if (says_no_locks(error)) {
      log_line(folder.string() +
               ": its file system has no locks; start no second run into this folder");
      return;
    }
    if (error != 0) {
      fail("cannot be locked: " + std::generic_category().message(error));
    }
    if (is_file_of(file_, descriptor_)) {
      break;
    }
    ::close(descriptor_);
  }
  const auto name = own_name();
  // For messages only: a file that stays empty locks as well.
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, name.data(), name.size(), 0) < 0) {
    return;
  }
}

FolderLock::~FolderLock() {
  release();
}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : file_(std::move(other.file_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  if (this != &other) {
    release();
    file_ = std::move(other.file_);
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

void FolderLock::release() noexcept {
  if (descriptor_ >= 0) {
    ::unlink(file_.c_str());
    ::close(std::exchange(descriptor_, -1));
  }
}

}  // namespace dovetail
