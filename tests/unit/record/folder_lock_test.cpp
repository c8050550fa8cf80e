// The lock of a result folder: against other processes, gone with its owner, harmless where a file
// is left or there are no locks.
#include "framework/record/folder_lock.hpp"

#include <cerrno>
#include <csignal>
#include <optional>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "framework/record/run_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

using test::TempFolder;
using testing::input_error_of;

std::string refusal_of(const fs::path& folder) {
  return input_error_of([&] { const FolderLock lock(folder); });
}

/// A process that holds the lock until it is killed; returns when it has it.
pid_t start_owner(const fs::path& folder) {
  const pid_t owner = ::fork();
  if (owner == 0) {
    const FolderLock lock(folder);
    test::write_file(folder / "held", "");
    while (true) {
      ::pause();
    }
  }
  while (!fs::exists(folder / "held")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return owner;
}

TEST(FolderLock, AnotherProcessIsRefusedUntilTheOwnerIsKilled) {
  TempFolder folder;
  const auto run = folder.path() / "run";
  fs::create_directory(run);
  const pid_t owner = start_owner(run);
  const auto message = refusal_of(run);
  EXPECT_TRUE(message.starts_with(run.string() +
                                  ": another run is writing into this folder (process " +
                                  std::to_string(owner) + " on host "))
      << message;
  EXPECT_TRUE(message.ends_with("); wait for its end, or name another folder")) << message;
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  EXPECT_TRUE(fs::exists(run / kLockFileName)) << "left behind";
  EXPECT_EQ(refusal_of(run), "") << "and harmless";
}

TEST(FolderLock, ItsFileGoesWithIt) {
  TempFolder folder;
  std::optional<FolderLock> lock(folder.path());
  FolderLock moved = std::move(*lock);
  lock.reset();
  EXPECT_NE(refusal_of(folder.path()), "") << "is still held";
  EXPECT_TRUE(fs::exists(folder.path() / kLockFileName));
  { const FolderLock last = std::move(moved); }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_EQ(refusal_of(folder.path()), "");
}

/// The owner before may remove the file between our opening and locking it.
TEST(FolderLock, AFileThatWasRemovedInBetweenIsNoLock) {
  TempFolder folder;
  const auto file = folder.path() / kLockFileName;
  int calls = 0;
  const FolderLock lock(folder.path(), [&](int descriptor) {
    if (++calls == 1) {
      fs::remove(file);
    }
    return lock_file(descriptor);
  });
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(fs::exists(file));
  EXPECT_NE(refusal_of(folder.path()), "");
}

TEST(FolderLock, WithoutLocksARunGoesOnAndSaysSo) {
  TempFolder folder;
  for (const int error : {ENOLCK, ENOSYS, EOPNOTSUPP}) {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(
        input_error_of([&] { const FolderLock lock(folder.path(), [=](int) { return error; }); }),
        "");
    const auto said = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find(folder.path().string() + ": its file system has no locks"),
              std::string::npos)
        << said;
    EXPECT_TRUE(fs::is_empty(folder.path()));
  }
  EXPECT_EQ(input_error_of([&] { const FolderLock lock(folder.path(), [](int) { return EIO; }); }),
            folder.path().string() + ": cannot be locked: Input/output error");
  EXPECT_EQ(input_error_of([&] { const FolderLock lock(folder.path() / "absent"); }),
            (folder.path() / "absent" / kLockFileName).string() +
                ": cannot be made: No such file or directory");
}

TEST(FolderLock, ANamedRunFolderIsTheCallersAlone) {
  TempFolder folder;
  const auto run = folder.path() / "run";
  std::optional<FolderLock> lock(use_run_folder(run));
  EXPECT_NE(input_error_of([&] { use_run_folder(run); }).find("another run is writing"),
            std::string::npos);
  lock.reset();
  test::write_file(run / kLockFileName, "of a run that was killed");
  EXPECT_TRUE(is_unused(run));
  EXPECT_EQ(input_error_of([&] { use_run_folder(run); }), "");
  test::write_file(run / "x", "precious");
  EXPECT_FALSE(is_unused(run));
  EXPECT_NE(input_error_of([&] { use_run_folder(run); }).find("is not empty"), std::string::npos);
  EXPECT_FALSE(fs::exists(run / kLockFileName)) << "nothing is left in a folder of others";
}

}  // namespace
}  // namespace dovetail
