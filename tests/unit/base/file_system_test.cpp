// What cannot be looked at is an InputError with path and reason, never an exception of the
// library.
#include "framework/base/file_system.hpp"

#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using testing::input_error_of;

class FileSystem : public ::testing::Test {
 protected:
  FileSystem() {
    fs::create_symlink(loop_, loop_);
    fs::create_symlink(folder_.path() / "nowhere", dangling_);
    std::ofstream(file_) << "x";
  }

  ScratchFolder folder_;
  fs::path loop_ = folder_.path() / "loop";
  fs::path dangling_ = folder_.path() / "dangling";
  fs::path file_ = folder_.path() / "file";
  fs::path long_ = folder_.path() / std::string(300, 'x');
};

TEST_F(FileSystem, WhatIsNotThereIsSaid) {
  for (const auto& absent : {folder_.path() / "absent", file_ / "below", dangling_}) {
    EXPECT_FALSE(path_exists(absent)) << absent;
    EXPECT_FALSE(is_folder(absent)) << absent;
    EXPECT_FALSE(is_plain_file(absent)) << absent;
  }
  EXPECT_TRUE(is_name_taken(dangling_));
  EXPECT_TRUE(is_name_taken(loop_));
  EXPECT_TRUE(is_folder(folder_.path()));
  EXPECT_TRUE(is_plain_file(file_));
  EXPECT_EQ(list_folder(folder_.path()), (std::vector<fs::path>{dangling_, file_, loop_}));
}

TEST_F(FileSystem, WhatCannotBeLookedAtIsRefusedWithItsReason) {
  const std::string of_loop = ": cannot be looked at: Too many levels of symbolic links";
  for (const auto& path : {loop_, loop_ / "below"}) {
    EXPECT_EQ(input_error_of([&] { path_exists(path); }), path.string() + of_loop);
    EXPECT_EQ(input_error_of([&] { is_folder(path); }), path.string() + of_loop);
    EXPECT_EQ(input_error_of([&] { is_plain_file(path); }), path.string() + of_loop);
  }
  const std::string of_long = long_.string() + ": cannot be looked at: File name too long";
  EXPECT_EQ(input_error_of([&] { path_exists(long_); }), of_long);
  EXPECT_EQ(input_error_of([&] { is_name_taken(long_); }), of_long);
  EXPECT_NE(input_error_of([&] { real_path_of(loop_ / "below"); }), "");
  EXPECT_EQ(input_error_of([&] { list_folder(file_); }),
            file_.string() + ": cannot be read: Not a directory");
  EXPECT_NE(input_error_of([&] { is_same_file(file_, folder_.path() / "absent"); }), "");
  EXPECT_EQ(input_error_of([&] { make_folders(file_ / "a" / "b"); }),
            (file_ / "a" / "b").string() + ": cannot be made: Not a directory");
}

TEST_F(FileSystem, ANameThatIsTakenIsNotMovedTo) {
  const auto to = folder_.path() / "to";
  move_to_new_name(file_, to);
  EXPECT_TRUE(is_plain_file(to));
  std::ofstream(file_) << "y";
  EXPECT_EQ(input_error_of([&] { move_to_new_name(file_, to); }),
            file_.string() + ": cannot be moved to " + to.string() + ": File exists");
  EXPECT_TRUE(is_plain_file(file_));
}

}  // namespace
}  // namespace dovetail
