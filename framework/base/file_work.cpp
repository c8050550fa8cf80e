#include "framework/base/file_work.hpp"

#include <mutex>

#include "framework/base/clock.hpp"

namespace dovetail {

/// All that are alive, in a list.
struct FileWorks {
  std::mutex mutex;
  FileWork* oldest = nullptr;
  FileWork* newest = nullptr;

  void add(FileWork& work) {
    const std::lock_guard lock(mutex);
    work.older_ = newest;
    (newest == nullptr ? oldest : newest->newer_) = &work;
    newest = &work;
  }

  void remove(FileWork& work) {
    const std::lock_guard lock(mutex);
    (work.older_ == nullptr ? oldest : work.older_->newer_) = work.newer_;
    (work.newer_ == nullptr ? newest : work.newer_->older_) = work.older_;
  }

  std::optional<OpenFileWork> find_oldest() {
    const std::lock_guard lock(mutex);
    if (oldest == nullptr) {
      return std::nullopt;
    }
    return OpenFileWork{oldest->file_, oldest->begun_ns_};
  }
};

namespace {

/// Never destroyed: threads may be left behind.
FileWorks& works() {
  static auto* all = new FileWorks();  // NOLINT(cppcoreguidelines-owning-memory)
  return *all;
}

}  // namespace

FileWork::FileWork(const std::string& file) : file_(file), begun_ns_(now_ns()) {
  works().add(*this);
}

FileWork::~FileWork() {
  works().remove(*this);
}

std::optional<OpenFileWork> oldest_file_work() {
  return works().find_oldest();
}

}  // namespace dovetail
