// Files that appear whole: a name is given once, with whatever the file system has for that.
#include "framework/record/unfinished_file.hpp"

#include <cerrno>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using testing::input_error_of;

/// As a file system that has not this call.
NamingCalls::Call refuse(int error) {
  return [error](const char*, const char*) { return error; };
}

struct Case {
  const char* name;
  NamingCalls calls;
};

/// Every way that a name can be given in, with the errors that kernels are known to answer.
std::vector<Case> all_ways() {
  const auto system = NamingCalls::of_system();
  return {{"rename", system},
          {"only rename", {system.rename_new, refuse(EPERM)}},
          {"link (NFS)", {refuse(EINVAL), system.link}},
          {"link (old kernel)", {refuse(ENOSYS), system.link}},
          {"claim (vfat)", {refuse(EINVAL), refuse(EPERM)}},
          {"claim (FUSE)", {refuse(ENOSYS), refuse(ENOSYS)}},
          {"claim (CIFS)", {refuse(EOPNOTSUPP), refuse(EOPNOTSUPP)}}};
}

std::vector<std::string> list(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(UnfinishedFile, AppearsUnderItsNameAndOnlyThere) {
  for (const auto& [name, calls] : all_ways()) {
    TempFolder folder;
    const auto path = folder.path() / "result";
    {
      UnfinishedFile unfinished(folder.path() / "result.creating");
      test::write_file(unfinished.path(), "whole");
      EXPECT_FALSE(fs::exists(path)) << name;
      unfinished.publish_new(path, calls);
      EXPECT_EQ(test::read_file(path), "whole") << name;
    }
    EXPECT_EQ(list(folder.path()), (std::vector<std::string>{"result"})) << name;
  }
}

TEST(UnfinishedFile, NeverReplacesAResult) {
  for (const auto& way : all_ways()) {
    TempFolder folder;
    const auto path = folder.path() / "result";
    test::write_file(path, "precious");
    {
      UnfinishedFile unfinished(folder.path() / "result.creating");
      test::write_file(unfinished.path(), "other");
      EXPECT_EQ(input_error_of([&] { unfinished.publish_new(path, way.calls); }),
                path.string() + ": exists; results are never overwritten")
          << way.name;
    }
    EXPECT_EQ(test::read_file(path), "precious") << way.name;
    EXPECT_EQ(list(folder.path()), (std::vector<std::string>{"result"})) << way.name;
  }
}

TEST(UnfinishedFile, WhatWasNotPublishedGoesAway) {
  TempFolder folder;
  { UnfinishedFile never_made(folder.path() / "a"); }
  {
    UnfinishedFile unfinished(folder.path() / "b");
    test::write_file(unfinished.path(), "x");
    EXPECT_THROW(unfinished.publish_new(folder.path() / "absent" / "b"), RunError);
    EXPECT_THROW(unfinished.replace(folder.path() / "absent" / "b"), RunError);
  }
  // Nor does the empty file that claimed a name which could not be given.
  {
    UnfinishedFile unfinished(folder.path() / "c");
    EXPECT_THROW(unfinished.publish_new(folder.path() / "taken", {refuse(EINVAL), refuse(EPERM)}),
                 RunError);
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

/// What a kill between claim and rename leaves is refused by name, by readers and by a next run.
TEST(UnfinishedFile, AClaimedNameIsNoResult) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_file(path, "");
  EXPECT_TRUE(input_error_of([&] {
                RankFile file(path);
              }).starts_with(path.string() + ": not a readable HDF5 file"));
  EXPECT_EQ(input_error_of([&] { RankRecorder recorder(path, test::full_spec()); }),
            path.string() + ": exists; results are never overwritten");
  EXPECT_EQ(list(folder.path()), (std::vector<std::string>{"rank-00000.h5"}));
}

}  // namespace
}  // namespace dovetail
