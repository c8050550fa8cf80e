// Folders of a run: names, never overwriting, listing, policy folders that miss ranks.
#include "framework/record/run_folder.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/record/policy_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using test::full_spec;
using test::TempFolder;
using testing::input_error_of;

constexpr auto kTime = std::chrono::system_clock::time_point(std::chrono::seconds(1763826329));

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(RunFolder, IsNamedByExperimentAndTime) {
  TempFolder folder;
  const auto results = folder.path() / "deep" / "results";
  EXPECT_EQ(utc_text(kTime), "2025-11-22T15:45:29Z");
  EXPECT_EQ(create_run_folder(results, "quick", kTime), results / "quick-20251122T154529Z");
  EXPECT_EQ(create_run_folder(results, "quick", kTime), results / "quick-20251122T154529Z-2");
  EXPECT_EQ(create_run_folder(results, "quick", kTime), results / "quick-20251122T154529Z-3");
  for (const std::string name : {"", ".", "..", ".hidden", "a/b", "a\nb", "a\\b"}) {
    EXPECT_NE(input_error_of([&] { create_run_folder(results, name, kTime); }), "") << name;
  }
  test::write_file(folder.path() / "file", "x");
  EXPECT_NE(input_error_of([&] { create_run_folder(folder.path() / "file", "quick", kTime); }), "");
}

TEST(RunFolder, NamedFolderMustBeAbsentOrEmpty) {
  TempFolder folder;
  const auto run = folder.path() / "a" / "b";
  use_run_folder(run);
  EXPECT_TRUE(fs::is_directory(run));
  EXPECT_NO_THROW(use_run_folder(run));
  test::write_file(run / "x", "precious");
  const auto message = input_error_of([&] { use_run_folder(run); });
  EXPECT_TRUE(contains(message, run.string() + ": the result folder is not empty")) << message;
  EXPECT_EQ(test::read_file(run / "x"), "precious");
  EXPECT_TRUE(contains(input_error_of([&] { use_run_folder(run / "x"); }), "is not a folder"));
}

TEST(RunFolder, PolicyFolderIsNew) {
  TempFolder folder;
  const auto run = folder.path() / "run";
  use_run_folder(run);
  const auto policy = create_policy_folder(run, "dual_batch");
  EXPECT_EQ(policy, run / "dual_batch");
  EXPECT_TRUE(contains(input_error_of([&] { create_policy_folder(run, "dual_batch"); }),
                       "never overwritten"));
  EXPECT_NE(input_error_of([&] { create_policy_folder(run, "../x"); }), "");
  EXPECT_FALSE(fs::exists(folder.path() / "x"));
}

TEST(RunFolder, RankFileNames) {
  EXPECT_EQ(rank_file_name(0), "rank-00000.h5");
  EXPECT_EQ(rank_file_name(512), "rank-00512.h5");
  EXPECT_EQ(rank_file_name(123456), "rank-123456.h5");
  for (const std::int64_t rank : {0, 7, 99999, 123456}) {
    EXPECT_EQ(parse_rank_file_name(rank_file_name(rank)), rank);
  }
  for (const std::string name : {"rank-1.h5",
                                 "rank-00001.h5.creating",
                                 "rank-0000x.h5",
                                 "rank--0001.h5",
                                 "view.h5",
                                 "rank-.h5",
                                 "rank-99999999999999999999.h5",
                                 ""}) {
    EXPECT_FALSE(parse_rank_file_name(name)) << name;
  }
}

TEST(RunFolder, JsonIsWholeOrOld) {
  TempFolder folder;
  const auto path = folder.path() / kSummaryFileName;
  write_json(path, {{"a", 1}});
  write_json(path, {{"a", 2}});
  EXPECT_EQ(nlohmann::json::parse(test::read_file(path)), (nlohmann::json{{"a", 2}}));
  // Nothing temporary is left, also not after a failure.
  fs::create_directories(folder.path() / "taken" / "below");
  EXPECT_THROW(write_json(folder.path() / "taken", {{"a", 3}}), RunError);
  EXPECT_THROW(write_json(folder.path() / "absent" / "x.json", {{"a", 3}}), RunError);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

TEST(PolicyFolder, NamesMissingUnreadableAndUnfinishedRanks) {
  TempFolder folder;
  const auto policy = create_policy_folder(folder.path(), "dual_batch");
  test::write_full_file(policy / rank_file_name(1), full_spec(1, 5));
  { RankRecorder killed(policy / rank_file_name(2), full_spec(2, 5)); }
  {
    RankRecorder failed(policy / rank_file_name(4), full_spec(4, 5));
    failed.finish(RunStatus::failed, "boom");
  }
  test::write_file(policy / rank_file_name(3), "cut");
  test::write_file(policy / "rank-00007.h5.creating", "left by a killed rank");
  const PolicyFolder read(policy);
  EXPECT_EQ(read.world_size(), 5);
  EXPECT_EQ(read.missing_ranks(), (std::vector<std::int64_t>{0, 3}));
  EXPECT_EQ(read.rank(1).status(), RunStatus::complete);
  EXPECT_EQ(read.ranks()[0].problem, "missing");
  EXPECT_TRUE(contains(input_error_of([&] { read.rank(0); }), "rank 0: missing"));
  EXPECT_TRUE(contains(input_error_of([&] { read.rank(5); }), "no rank 5"));
  const auto message = input_error_of([&] { read.require_complete(); });
  EXPECT_TRUE(contains(message, "rank 0: missing; rank 2: status running; rank 3: ")) << message;
  EXPECT_TRUE(contains(message, "rank 4: status failed (boom)")) << message;
  EXPECT_FALSE(contains(message, "rank 1:")) << message;
}

TEST(PolicyFolder, CompleteFolderPasses) {
  TempFolder folder;
  for (const int rank : {0, 1}) {
    test::write_full_file(folder.path() / rank_file_name(rank), full_spec(rank, 2));
  }
  EXPECT_NO_THROW(PolicyFolder(folder.path()).require_complete());
}

TEST(PolicyFolder, ContradictionsAreRefused) {
  const auto refused = [](std::int64_t name, const RankFileSpec& spec) {
    TempFolder folder;
    test::write_full_file(folder.path() / rank_file_name(0), full_spec(0, 2));
    test::write_full_file(folder.path() / rank_file_name(name), spec);
    return input_error_of([&] { PolicyFolder read(folder.path()); });
  };
  EXPECT_EQ(refused(1, full_spec(1, 2)), "");
  EXPECT_TRUE(contains(refused(1, full_spec(0, 2)), "says that it is rank 0"));
  EXPECT_TRUE(contains(refused(1, full_spec(1, 3)), "world size 3 differs from 2"));
  EXPECT_TRUE(contains(refused(2, full_spec(2, 2)), "beyond the world of 2 ranks"));
  auto other = full_spec(1, 2);
  other.policy = "sequential";
  EXPECT_TRUE(contains(refused(1, other), "policy 'sequential' differs from 'dual_batch'"));
  other.policy = "dual\x02";
  EXPECT_TRUE(contains(refused(1, other), "policy 'dual?' differs from 'dual_batch'"));
}

TEST(PolicyFolder, FoldersWithoutRankFilesAreRefused) {
  TempFolder folder;
  EXPECT_TRUE(
      contains(input_error_of([&] { PolicyFolder read(folder.path() / "x"); }), "no such folder"));
  EXPECT_TRUE(
      contains(input_error_of([&] { PolicyFolder read(folder.path()); }), "holds no rank file"));
  const auto policy = create_policy_folder(folder.path(), "dual_batch");
  test::write_file(policy / rank_file_name(0), "cut");
  EXPECT_TRUE(contains(input_error_of([&] { PolicyFolder read(folder.path()); }),
                       "it is a run with the policies dual_batch"));
  EXPECT_TRUE(contains(input_error_of([&] { PolicyFolder read(policy); }), "not a readable"));
  EXPECT_EQ(list_policy_folders(folder.path()), (std::vector<fs::path>{policy}));
}

}  // namespace
}  // namespace dovetail
