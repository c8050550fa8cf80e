#include "framework/record/unfinished_file.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// 0, or errno of a call that has just failed.
int error_of(int result) {
  return result == 0 ? 0 : errno;
}

[[noreturn]] void fail(const fs::path& path, const char* call, int error) {
  throw RunError(path.string() + ": " + call + ": " + std::generic_category().message(error));
}

/// Makes an empty file, which claims the name; returns 0 or an errno.
int claim(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  return descriptor < 0 ? errno : error_of(::close(descriptor));
}

}  // namespace

NamingCalls NamingCalls::of_system() {
  return {.rename_new =
              [](const char* from, const char* to) {
                return error_of(::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
              },
          .link = [](const char* from, const char* to) { return error_of(::link(from, to)); }};
}

UnfinishedFile::~UnfinishedFile() {
  if (!is_renamed_) {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
}

void UnfinishedFile::publish_new(const fs::path& to, const NamingCalls& calls) {
  int error = calls.rename_new(path_.c_str(), to.c_str());
  is_renamed_ = error == 0;
  if (error == 0) {
    return;
  }
  // Which errors say that a file system has no such call differs between them, so any but EEXIST
  // leads on to the next way.
  error = error == EEXIST ? error : calls.link(path_.c_str(), to.c_str());
  if (error == 0) {
    return;  // under both names, until this goes
  }
  error = error == EEXIST ? error : claim(to);
  if (error == EEXIST) {
    refuse_existing(to);
  }
  if (error != 0) {
    fail(to, "open", error);
  }
  error = error_of(::rename(path_.c_str(), to.c_str()));
  if (error != 0) {
    ::unlink(to.c_str());  // our own empty file
    fail(to, "rename", error);
  }
  is_renamed_ = true;
}

void UnfinishedFile::replace(const fs::path& to) {
  if (const int error = error_of(::rename(path_.c_str(), to.c_str())); error != 0) {
    fail(to, "cannot be written", error);
  }
  is_renamed_ = true;
}

fs::path unfinished_name(const fs::path& path) {
  fs::path name = path;
  name += ".writing-" + std::to_string(::getpid());
  return name;
}

void refuse_existing(const fs::path& path) {
  throw InputError(path.string() + ": exists; results are never overwritten");
}

}  // namespace dovetail
