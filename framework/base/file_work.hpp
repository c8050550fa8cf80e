// Which files the threads of this process are at: a call to a file system that does not answer
// never returns, and somebody else has to say so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dovetail {

/// The life of a call on a file. Any thread. Costs two uncontended locks.
class FileWork {
 public:
  /// `file`: a path, or what else names the place; outlives this.
  explicit FileWork(const std::string& file);
  ~FileWork();
  FileWork(const FileWork&) = delete;
  FileWork& operator=(const FileWork&) = delete;
  FileWork(FileWork&&) = delete;
  FileWork& operator=(FileWork&&) = delete;

 private:
  friend struct FileWorks;

  const std::string& file_;
  std::int64_t begun_ns_;
  FileWork* older_ = nullptr;
  FileWork* newer_ = nullptr;
};

struct OpenFileWork {
  std::string file;
  std::int64_t begun_ns = 0;
};

/// The call that is open for longest; nothing where none is. Any thread.
std::optional<OpenFileWork> oldest_file_work();

}  // namespace dovetail
