// Files from outside: whatever lies under the name, reading ends at once, within the bound.
#include "framework/base/text_file.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/input_file.hpp"
#include "framework/base/scratch_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr TextFileKind kSmall{1 * kMebibyte, "a small text"};

class TextFile : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  std::string write(const std::string& content) const {
    std::ofstream(path("text"), std::ios::binary) << content;
    return path("text");
  }

  /// What the error says behind the file's name.
  static std::string refusal(const std::string& path) {
    const std::string what = testing::input_error_of([&] { read_text_file(path, kSmall); });
    EXPECT_TRUE(what.empty() || what.starts_with(path + ": ")) << what;
    return what.substr(std::min(what.size(), path.size() + 2));
  }

  ScratchFolder folder_;
};

int open_descriptors() {
  return static_cast<int>(std::distance(fs::directory_iterator("/proc/self/fd"), {}));
}

TEST_F(TextFile, ReadsEveryByte) {
  for (const std::size_t size : {0UL, 1UL, 65'535UL, 65'536UL, 65'537UL, 200'000UL, 1UL << 20U}) {
    std::string content(size, '\0');
    for (std::size_t i = 0; i < size; ++i) {
      content[i] = static_cast<char>(i * 7919 % 251);
    }
    EXPECT_EQ(read_text_file(write(content), kSmall), content) << size;
  }
  fs::create_symlink(write("through a link"), path("link"));
  EXPECT_EQ(read_text_file(path("link"), kSmall), "through a link");
  EXPECT_FALSE(read_text_file("/proc/self/status", kSmall).empty()) << "says that it has 0 bytes";
}

TEST_F(TextFile, RefusesWhatIsTooLarge) {
  EXPECT_EQ(refusal(write(std::string((1U << 20U) + 1, 'x'))),
            "larger than 1 MiB; allowed: a small text");
  fs::resize_file(write(""), std::uintmax_t{1} << 40U);  // sparse; reading it would take minutes
  EXPECT_EQ(refusal(path("text")), "larger than 1 MiB; allowed: a small text");
}

TEST_F(TextFile, SaysWhyAFileCannotBeOpened) {
  EXPECT_EQ(refusal(path("absent")),
            "cannot be opened or read: No such file or directory; allowed: a small text");
  fs::create_symlink(path("loop"), path("loop"));
  EXPECT_EQ(refusal(path("loop")).find("cannot be opened or read: Too many levels"), 0U);
  EXPECT_NE(refusal(path(std::string(300, 'x'))).find("File name too long"), std::string::npos);
}

TEST_F(TextFile, SaysWhereARelativePathCountsFrom) {
  const auto message = testing::input_error_of([] { read_text_file("no/such.yaml", kSmall); });
  EXPECT_EQ(message,
            "no/such.yaml: cannot be opened or read: No such file or directory (relative paths "
            "count from the working directory, " +
                fs::current_path().string() + "); allowed: a small text");
}

TEST_F(TextFile, RefusesWhatIsNoRegularFileWithoutWaiting) {
  const std::string expected =
      "cannot be opened or read: not a regular file; allowed: a small text";
  EXPECT_EQ(refusal(folder_.path().string()), expected);
  EXPECT_EQ(refusal("/dev/zero"), expected) << "would never end";
  const auto pipe = path("pipe");
  testing::expect_pipe_refused(pipe, [&] { read_text_file(pipe, kSmall); });
  const int writer = ::open(pipe.c_str(), O_RDWR);  // a pipe with a writer who writes nothing
  ASSERT_GE(writer, 0);
  EXPECT_EQ(refusal(pipe), expected);
  ::close(writer);
}

TEST_F(TextFile, LeavesNoDescriptorOpen) {
  write("text");
  testing::make_pipe(path("pipe"));
  const int before = open_descriptors();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(refusal(path("text")), "");
    EXPECT_NE(refusal(path("pipe")), "");
    EXPECT_NE(refusal(path("absent")), "");
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace dovetail
