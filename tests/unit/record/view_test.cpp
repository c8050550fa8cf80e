// view.h5: every rank's data at its place, fill elsewhere, also after the folder has moved.
#include "framework/record/view.hpp"

#include <algorithm>
#include <cmath>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "framework/record/reader.hpp"
#include "framework/record/run_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using hdf5::Shape;
using test::full_spec;
using test::TempFolder;

/// A world of 4: rank 0 complete, rank 1 missing, rank 2 with fewer tokens and failed, rank 3 idle
/// and never finished. An empty `link` is left out.
void write_ranks(const fs::path& policy, const std::string& link = "") {
  fs::create_directories(policy);
  auto whole = full_spec(0, 4);
  if (!link.empty()) {
    whole.attributes.push_back({attribute::kLink, link});
  }
  test::write_full_file(policy / rank_file_name(0), whole);
  auto shorter = full_spec(2, 4);
  shorter.tokens = 4;
  shorter.requests = 1;
  shorter.outputs = {{"hidden", DType::bfloat16, {4, 5}}, {"logits", DType::float32, {1, 7}}};
  {
    RankRecorder recorder(policy / rank_file_name(2), shorter);
    recorder.write(path::kInputIds, std::vector<std::int64_t>{21, 22, 23, 24});
    recorder.write_scalar(path::kDispatchWireBytes, 2048);
    recorder.write_step(3, 0, 33, {});
    recorder.finish(RunStatus::failed, "boom");
  }
  auto idle = full_spec(3, 4);
  idle.tokens = 0;
  idle.requests = 0;
  idle.outputs = {{"hidden", DType::bfloat16, {0, 5}}, {"logits", DType::float32, {0, 7}}};
  RankRecorder recorder(policy / rank_file_name(3), idle);
}

std::vector<std::int64_t> read_integers(const hdf5::File& file, const std::string& path) {
  const auto dataset = file.open_dataset(path);
  EXPECT_EQ(dataset.dtype(), DType::int64);
  std::vector<std::int64_t> values(static_cast<std::size_t>(hdf5::num_elements(dataset.shape())));
  dataset.read(std::as_writable_bytes(std::span(values)));
  return values;
}

struct OwnData {
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> step_ns;
  std::int64_t wire_bytes = 0;
  std::vector<std::byte> hidden;
};

/// What rank 0's file holds; it is closed again, because the view cannot show an open file.
OwnData own_data(const fs::path& policy) {
  const RankFile file(policy / rank_file_name(0));
  return {file.read<std::int64_t>(path::kInputIds).values,
          file.read<std::int64_t>(path::kStepNs).values,
          file.read<std::int64_t>(path::kDispatchWireBytes).values.at(0),
          file.read_bytes("/output/hidden")};
}

void expect_view(const fs::path& policy, const std::string& link = kNoLink) {
  const auto own = own_data(policy);
  const auto view = hdf5::File::open((policy / kViewFileName).string(), hdf5::Access::read);
  EXPECT_EQ(view.read_table("/ranks"),
            (std::vector<hdf5::Column>{
                {"rank", std::vector<std::int32_t>{0, 1, 2, 3}},
                {"status", std::vector<std::string>{"complete", "missing", "failed", "running"}},
                {"host", std::vector<std::string>{"host-0", "", "host-2", "host-3"}},
                {"file",
                 std::vector<std::string>{
                     "rank-00000.h5", "rank-00001.h5", "rank-00002.h5", "rank-00003.h5"}}}));
  auto expected = own.input_ids;
  expected.resize(24, -1);
  std::copy_n(std::vector<std::int64_t>{21, 22, 23, 24}.begin(), 4, expected.begin() + 12);
  EXPECT_EQ(read_integers(view, path::kInputIds), expected);
  EXPECT_EQ(view.open_dataset(path::kInputIds).shape(), (Shape{4, 6}));
  EXPECT_EQ(read_integers(view, path::kDispatchWireBytes),
            (std::vector<std::int64_t>{own.wire_bytes, -1, 2048, -1}));
  auto steps = own.step_ns;
  steps.resize(32, -1);
  steps[16 + 6] = 33;
  EXPECT_EQ(read_integers(view, path::kStepNs), steps);
  // hidden: rank 0 as written; NaN for all others.
  const auto hidden = view.open_dataset("/output/hidden");
  EXPECT_EQ(hidden.dtype(), DType::bfloat16);
  EXPECT_EQ(hidden.shape(), (Shape{4, 6, 5}));
  std::vector<std::byte> bytes(static_cast<std::size_t>(hidden.num_bytes()));
  hidden.read(bytes);
  ASSERT_GT(bytes.size(), own.hidden.size());
  EXPECT_TRUE(std::equal(own.hidden.begin(), own.hidden.end(), bytes.begin()));
  const auto fill = hdf5::fill_value(DType::bfloat16);
  for (std::size_t i = own.hidden.size(); i < bytes.size(); i += 2) {
    ASSERT_TRUE(
        std::equal(fill.begin(), fill.end(), bytes.begin() + static_cast<std::ptrdiff_t>(i)))
        << i;
  }
  EXPECT_EQ(view.attribute("/", "world_size"), hdf5::AttributeValue(std::int64_t{4}));
  EXPECT_EQ(view.attribute("/", "policy"), hdf5::AttributeValue(std::string("dual_batch")));
  EXPECT_EQ(view.attribute("/", "link"), hdf5::AttributeValue(link));
}

TEST(View, SaysHowTheLinkWasEmulated) {
  TempFolder folder;
  const auto policy = folder.path() / "run" / "dual_batch";
  const std::string link = "emulated: 20 us, 1 GB/s";
  write_ranks(policy, link);
  write_view(policy);
  expect_view(policy, link);
}

TEST(View, ShowsAllRanksAndMoves) {
  TempFolder folder;
  const auto policy = folder.path() / "run" / "dual_batch";
  write_ranks(policy);
  EXPECT_EQ(write_view(policy), policy / kViewFileName);
  expect_view(policy);
  write_view(policy);  // again: replaces the old one
  expect_view(policy);
  fs::rename(folder.path() / "run", folder.path() / "moved");
  expect_view(folder.path() / "moved" / "dual_batch");
  // Nothing but the rank files and the view.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path() / "moved" / "dual_batch"),
                          fs::directory_iterator()),
            4);
}

TEST(View, H5pyReadsIt) {
  TempFolder folder;
  write_ranks(folder.path());
  const auto view = write_view(folder.path());
  const auto dump = test::h5py_dump({view}).at(view.string());
  EXPECT_EQ(dump.at("datasets").at("/ranks").at("values").at(2).at("status"), "failed");
  EXPECT_EQ(dump.at("datasets").at("/ranks").at("values").at(1).at("status"), "missing");
  const auto& ids = dump.at("datasets").at(path::kInputIds);
  EXPECT_EQ(ids.at("shape"), nlohmann::json({4, 6}));
  EXPECT_EQ(ids.at("values").at(6), -1);
  EXPECT_EQ(ids.at("values").at(15), 24);
  EXPECT_EQ(ids.at("values").at(16), -1);
  const auto& hidden = dump.at("datasets").at("/output/hidden");
  EXPECT_EQ(hidden.at("dtype"), "float32");
  EXPECT_EQ(hidden.at("values").at(0), "0x1.0000000000000p-7");  // bits 0x3c00 are written there
  EXPECT_EQ(hidden.at("values").at(30), "nan");
}

TEST(View, UnreadableRankIsNamedAndFilled) {
  TempFolder folder;
  test::write_full_file(folder.path() / rank_file_name(0), full_spec(0, 2));
  test::write_file(folder.path() / rank_file_name(1), "cut");
  const auto view = hdf5::File::open(write_view(folder.path()).string(), hdf5::Access::read);
  EXPECT_EQ(std::get<std::vector<std::string>>(view.read_table("/ranks")[1].values),
            (std::vector<std::string>{"complete", "unreadable"}));
  EXPECT_EQ(read_integers(view, path::kDispatchWireBytes)[1], -1);
}

/// The limit of open files as long as this lives.
class FileLimit {
 public:
  explicit FileLimit(rlim_t files) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit small = {files, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
  }

  ~FileLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  FileLimit(FileLimit&&) = delete;
  FileLimit& operator=(FileLimit&&) = delete;

 private:
  rlimit before_{};
};

/// As results/README.md says, and how it tells to find out. Making the view needs few open files.
TEST(View, ShowsFillValuesOfRanksBeyondTheLimitOfOpenFiles) {
  constexpr int kRanks = 150;
  TempFolder folder;
  for (int rank = 0; rank < kRanks; ++rank) {
    test::write_full_file(folder.path() / rank_file_name(rank), full_spec(rank, kRanks));
  }
  const auto shown = [](const hdf5::File& view) {
    const auto ids = read_integers(view, path::kInputIds);
    const auto width = std::ssize(ids) / kRanks;
    int ranks = 0;
    for (int rank = 0; rank < kRanks; ++rank) {
      ranks += ids[static_cast<std::size_t>(rank * width)] != -1 ? 1 : 0;
    }
    return ranks;
  };
  const FileLimit small(100);
  const auto path = write_view(folder.path()).string();
  {
    const auto view = hdf5::File::open(path, hdf5::Access::read);
    EXPECT_GT(shown(view), 20);
    EXPECT_LT(shown(view), 100);
    const auto table = view.read_table("/ranks");
    const auto& statuses = std::get<std::vector<std::string>>(table.at(1).values);
    EXPECT_EQ(std::count(statuses.begin(), statuses.end(), "complete"), kRanks);
  }
  const FileLimit large(400);
  EXPECT_EQ(shown(hdf5::File::open(path, hdf5::Access::read)), kRanks);
}

TEST(View, RanksThatContradictAreRefusedAndLeaveNoView) {
  TempFolder folder;
  test::write_full_file(folder.path() / rank_file_name(0), full_spec(0, 2));
  auto other = full_spec(1, 2);
  other.outputs[0].dtype = DType::float32;
  { RankRecorder recorder(folder.path() / rank_file_name(1), other); }
  const auto message = testing::input_error_of([&] { write_view(folder.path()); });
  EXPECT_NE(message.find("rank-00001.h5: /output/hidden: element type"), std::string::npos)
      << message;
  EXPECT_FALSE(fs::exists(folder.path() / kViewFileName));
}

}  // namespace
}  // namespace dovetail
