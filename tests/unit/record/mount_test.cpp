// Results on a file system without hard links. DOVETAIL_TEST_FOLDER_WITHOUT_LINKS names a folder on
// one (a bucket, a CIFS share); without it a vfat image is mounted, where that is allowed.
#include <cstdlib>
#include <fstream>
#include <optional>
#include <unistd.h>

#include <gtest/gtest.h>

#include "framework/record/policy_folder.hpp"
#include "framework/record/recorder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/view.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using test::full_spec;
using testing::input_error_of;

/// A vfat image of 16 MiB, mounted as long as this lives.
class MountedImage {
 public:
  MountedImage() {
    const std::string image = (folder_.path() / "image").string();
    mount_point_ = folder_.path() / "mounted";
    fs::create_directory(mount_point_);
    std::ofstream(image).close();
    fs::resize_file(image, std::uintmax_t{16} << 20U);
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"mkfs.vfat", image},
          std::vector<std::string>{"mount", "-o", "loop", image, mount_point_.string()}}) {
      std::string output;
      if (const int code = test::run_program(command, output); code != 0) {
        problem_ = command[0] + (code < 0 ? ": not found" : ": " + output);
        return;
      }
    }
  }

  ~MountedImage() {
    if (problem_.empty()) {
      std::string output;
      test::run_program({"umount", mount_point_.string()}, output);
    }
  }

  MountedImage(const MountedImage&) = delete;
  MountedImage& operator=(const MountedImage&) = delete;
  MountedImage(MountedImage&&) = delete;
  MountedImage& operator=(MountedImage&&) = delete;

  const fs::path& mount_point() const { return mount_point_; }

  /// Why it is not mounted; empty = it is.
  const std::string& problem() const { return problem_; }

 private:
  test::TempFolder folder_;
  fs::path mount_point_;
  std::string problem_;
};

class Mount : public ::testing::Test {
 protected:
  void SetUp() override {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread
    const char* given = std::getenv("DOVETAIL_TEST_FOLDER_WITHOUT_LINKS");
    if (given == nullptr) {
      image_.emplace();
      if (!image_->problem().empty()) {
        GTEST_SKIP() << image_->problem();
      }
    }
    folder_.emplace(given == nullptr ? image_->mount_point() : fs::path(given));
    test::write_file(folder_->path() / "file", "");
    ASSERT_NE(::link((folder_->path() / "file").c_str(), (folder_->path() / "other").c_str()), 0)
        << folder_->path() << " is on a file system with hard links";
    fs::remove(folder_->path() / "file");
  }

  std::optional<MountedImage> image_;
  std::optional<ScratchFolder> folder_;
};

TEST_F(Mount, AWholeRunAndNothingIsOverwritten) {
  const auto run = create_run_folder(folder_->path(), "unit", std::chrono::system_clock::now());
  const auto policy = create_policy_folder(run, "dual_batch");
  for (const int rank : {0, 1}) {
    const auto path = policy / rank_file_name(rank);
    test::write_full_file(path, full_spec(rank, 2));
    const auto bytes = test::read_file(path);
    EXPECT_EQ(input_error_of([&] { RankRecorder again(path, full_spec(rank, 2)); }),
              path.string() + ": exists; results are never overwritten");
    EXPECT_EQ(test::read_file(path), bytes);
  }
  EXPECT_NO_THROW(PolicyFolder(policy).require_complete());
  for (int time = 0; time < 2; ++time) {  // these replace an older one
    write_view(policy);
    write_json(policy / kSummaryFileName, {{"time", time}});
    write_file_atomically(run / kExperimentFileName, "experiment: unit\n");
  }
  EXPECT_EQ(nlohmann::json::parse(test::read_file(policy / kSummaryFileName)).at("time"), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(policy), fs::directory_iterator()), 4);
  EXPECT_EQ(std::distance(fs::directory_iterator(run), fs::directory_iterator()), 2);
}

}  // namespace
}  // namespace dovetail
