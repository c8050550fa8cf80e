// More rank files than a process may open.
#include "framework/record/read_handle.hpp"

#include <filesystem>
#include <random>
#include <sys/resource.h>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/record/policy_folder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/view.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr int kNumRanks = 300;

/// At most 128 files of this process are open.
class FewOpenFiles {
 public:
  FewOpenFiles() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit few = {128, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  }

  ~FewOpenFiles() { setrlimit(RLIMIT_NOFILE, &before_); }

  FewOpenFiles(const FewOpenFiles&) = delete;
  FewOpenFiles& operator=(const FewOpenFiles&) = delete;
  FewOpenFiles(FewOpenFiles&&) = delete;
  FewOpenFiles& operator=(FewOpenFiles&&) = delete;

 private:
  rlimit before_{};
};

class ManyFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int rank = 0; rank < kNumRanks; ++rank) {
      test::write_full_file(folder_.path() / rank_file_name(rank),
                            test::full_spec(rank, kNumRanks));
    }
  }

  void TearDown() override { EXPECT_EQ(num_open_for_reading(), 0); }

  test::TempFolder folder_;
};

TEST_F(ManyFiles, AreReadInAnyOrderUnderASmallLimit) {
  const FewOpenFiles few;
  const PolicyFolder policy(folder_.path());
  ASSERT_EQ(policy.world_size(), kNumRanks);
  EXPECT_TRUE(policy.missing_ranks().empty()) << policy.ranks()[0].problem;
  EXPECT_EQ(num_open_for_reading(), kMaxOpenForReading);
  std::mt19937_64 random(test::fresh_seed("ManyFiles"));
  for (int i = 0; i < 2000; ++i) {
    const auto rank = static_cast<std::int64_t>(random() % kNumRanks);
    ASSERT_EQ(policy.rank(rank).rank(), rank);
    ASSERT_LE(num_open_for_reading(), kMaxOpenForReading);
  }
  write_view(folder_.path());
  EXPECT_TRUE(fs::exists(folder_.path() / kViewFileName));
}

TEST_F(ManyFiles, TheOneThatWasUsedLongestAgoIsClosed) {
  std::vector<RankFile> files;
  for (int rank = 0; rank <= kMaxOpenForReading; ++rank) {
    files.emplace_back(folder_.path() / rank_file_name(rank));
    EXPECT_EQ(files.front().rank(), 0) << "used again each time";
  }
  for (int rank = 0; rank <= kMaxOpenForReading; ++rank) {
    fs::remove(folder_.path() / rank_file_name(rank));
  }
  EXPECT_EQ(files.front().rank(), 0) << "still open";
  EXPECT_EQ(files.back().rank(), kMaxOpenForReading);
  EXPECT_NE(testing::input_error_of([&] { files[1].rank(); }).find(rank_file_name(1)),
            std::string::npos)
      << "closed for the last one, and gone since";
}

TEST_F(ManyFiles, MoveAlongWithTheirOwner) {
  const auto file = [&](int rank) { return RankFile(folder_.path() / rank_file_name(rank)); };
  auto first = file(1);
  auto second = file(2);
  first = std::move(second);
  EXPECT_EQ(first.rank(), 2);
  const auto third = std::move(first);
  EXPECT_EQ(third.rank(), 2);
}

}  // namespace
}  // namespace dovetail
