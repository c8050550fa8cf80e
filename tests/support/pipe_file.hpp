// A named pipe that nobody writes to, for tests of readers that must not wait.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail::testing {

/// Puts a pipe in the place of whatever lies at `path`.
inline void make_pipe(const std::filesystem::path& path) {
  std::filesystem::remove(path);
  if (::mkfifo(path.c_str(), 0600) != 0) {
    throw std::runtime_error(path.string() + ": cannot make a pipe");
  }
}

/// Expects that `read` refuses the pipe at `path` by name. A reader that waits ends the test
/// program within ten seconds, by SIGALRM.
template <class Read>
void expect_pipe_refused(const std::filesystem::path& path, const Read& read) {
  make_pipe(path);
  std::string message;
  ::alarm(10);
  try {
    read();
  } catch (const InputError& error) {
    message = error.what();
  }
  ::alarm(0);
  EXPECT_NE(message.find(path.string() + ": cannot be opened or read: not a regular file"),
            std::string::npos)
      << message;
}

}  // namespace dovetail::testing
