// Files that claim more than they hold: refused by name before a reader takes memory for it or
// counts up to it.
#include <limits>

#include <gtest/gtest.h>

#include "framework/record/policy_folder.hpp"
#include "framework/record/profile.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/reader_check.hpp"
#include "framework/record/recorder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/trace.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using hdf5::Shape;
using test::full_spec;
using testing::input_error_of;

constexpr std::int64_t kHuge = std::int64_t{1} << 40;

/// How the elements of a dataset that was never written are laid out.
enum class Layout { contiguous, chunked };

/// Replaces (or adds) a dataset by one that takes no room in the file: our layer makes none such.
void claim(const std::string& file,
           const std::string& dataset,
           DType dtype,
           const Shape& shape,
           Layout layout = Layout::contiguous) {
  const hdf5::Handle<H5Fclose> opened(H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
  if (H5Lexists(opened.get(), dataset.c_str(), H5P_DEFAULT) > 0) {
    H5Ldelete(opened.get(), dataset.c_str(), H5P_DEFAULT);
  }
  const std::vector<hsize_t> lengths(shape.begin(), shape.end());
  const hdf5::Space space(
      H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr));
  const hdf5::Handle<H5Pclose> creation(H5Pcreate(H5P_DATASET_CREATE));
  if (layout == Layout::chunked) {
    const std::vector<hsize_t> chunk(lengths.size(), 1);
    H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
  }
  H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_LATE);
  const hdf5::Handle<H5Dclose> made(H5Dcreate2(opened.get(),
                                               dataset.c_str(),
                                               hdf5::make_type(dtype).get(),
                                               space.get(),
                                               H5P_DEFAULT,
                                               creation.get(),
                                               H5P_DEFAULT));
  ASSERT_TRUE(made) << dataset;
}

class Claims : public ::testing::Test {
 protected:
  Claims() : path_(folder_.path() / rank_file_name(0)) { reset(); }

  /// A good file.
  void reset() {
    std::filesystem::remove(path_);
    auto spec = full_spec();
    spec.has_mrope_positions = true;
    test::write_full_file(path_, spec);
  }

  std::string name() const { return path_.string(); }

  std::string refused() const {
    return input_error_of([&] { RankFile file(path_); });
  }

  /// Expects that the file is refused, by its name and that of the dataset.
  void expect_refused(const std::string& dataset, const std::string& reason) {
    const auto message = refused();
    EXPECT_TRUE(message.starts_with(name() + ": " + dataset + ": ")) << dataset << ": " << message;
    EXPECT_NE(message.find(reason), std::string::npos) << dataset << ": " << message;
    reset();
  }

  template <class Change>
  void change(Change&& change) {
    auto file = hdf5::File::open(name(), hdf5::Access::read_write);
    change(file);
  }

  test::TempFolder folder_;
  std::filesystem::path path_;
};

TEST_F(Claims, DatasetsWithoutTheirElements) {
  auto spec = full_spec();
  spec.has_mrope_positions = true;
  int tried = 0;
  for (const auto& dataset : rank_file_datasets(spec)) {
    if (dataset.shape.empty()) {
      continue;
    }
    auto shape = dataset.shape;
    shape[0] = kHuge;
    for (const auto layout : {Layout::contiguous, Layout::chunked}) {
      claim(name(), dataset.path, dataset.dtype, shape, layout);
      expect_refused(dataset.path, " bytes, but the file holds 0 of it");
    }
    ++tried;
  }
  EXPECT_GT(tried, 15);
}

TEST_F(Claims, LengthsBesideAnEmptyDimension) {
  for (const char* ops : {path::kOps, path::kOpsComputeOnly, path::kOpsCommOnly}) {
    claim(name(), ops, DType::int64, {0, kHuge, 2});
  }
  expect_refused(path::kOps, "an empty dataset of shape [0, 1099511627776, 2]");
  claim(name(), path::kExpertIds, DType::int32, {kHuge, 0, 3});
  claim(name(), path::kRouterLogits, DType::float32, {kHuge, 0, 5});
  expect_refused(path::kExpertIds, "an empty dataset");
  claim(name(), "/output/hidden", DType::float32, {0, kHuge});
  expect_refused("/output/hidden", "an empty dataset");
  // That of an idle rank's logits is real.
  claim(name(), "/output/logits", DType::float32, {0, 1'000'000});
  EXPECT_EQ(refused(), "");
}

TEST_F(Claims, MoreThanAnIntegerCounts) {
  constexpr std::int64_t large = std::int64_t{1} << 31;
  claim(name(), path::kOps, DType::int64, {large, large, 2}, Layout::chunked);
  expect_refused(path::kOps, "is beyond any file");
  claim(name(), "/output/hidden", DType::float32, {large, large}, Layout::chunked);
  expect_refused("/output/hidden", "is beyond any file");
  EXPECT_EQ(hdf5::num_elements({large, large, large}), std::numeric_limits<std::int64_t>::max());
}

TEST_F(Claims, OutputsThatAreNoRows) {
  change([](auto& file) { file.create_dataset("/output/other", DType::float32, {4}); });
  expect_refused("/output/other", "shape [4] instead of 2 dimensions");
}

TEST_F(Claims, NumbersOfRanks) {
  for (const std::int64_t ranks : {kHuge, kMaxWorldSize + 1, std::int64_t{0}, std::int64_t{-1}}) {
    change([&](auto& file) { file.update_attribute("/", {attribute::kWorldSize, ranks}); });
    expect_refused("/", "world_size " + std::to_string(ranks) + "; allowed: 1 to 131072");
  }
  change([](auto& file) { file.update_attribute("/", {attribute::kWorldSize, kMaxWorldSize}); });
  EXPECT_EQ(PolicyFolder(folder_.path()).missing_ranks().size(), 131071U);
}

/// The message with which /schedule/1 of one op is refused.
std::string refused_schedule(const std::filesystem::path& path,
                             std::int32_t layer,
                             std::int32_t ubatch,
                             std::int64_t num_ubatches) {
  {
    auto file = hdf5::File::open(path.string(), hdf5::Access::read_write);
    file.remove("/schedule/1");
    file.write_table("/schedule/1",
                     {{"layer", std::vector<std::int32_t>{layer}},
                      {"ubatch", std::vector<std::int32_t>{ubatch}},
                      {"phase", std::vector<std::string>{"attention"}},
                      {"lane", std::vector<std::string>{"compute"}},
                      {"waits", std::vector<std::string>{""}},
                      {"group", std::vector<std::int32_t>{-1}}});
    file.create_attribute("/schedule/1", {attribute::kName, std::string("x")});
    file.create_attribute("/schedule/1", {attribute::kNumUbatches, num_ubatches});
    file.create_attribute("/schedule/1", {attribute::kDigest, std::string()});
  }
  const auto message = input_error_of([&] { static_cast<void>(RankFile(path).schedules()); });
  const std::string where = path.string() + ": /schedule/1: ";
  EXPECT_TRUE(message.empty() || message.starts_with(where)) << message;
  return message.empty() ? "" : message.substr(where.size());
}

TEST_F(Claims, NumbersInSchedules) {
  constexpr std::int32_t billion = 1'000'000'000;
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  const auto refused = [&](std::int32_t layer, std::int32_t ubatch, std::int64_t num_ubatches) {
    return refused_schedule(path_, layer, ubatch, num_ubatches);
  };
  EXPECT_EQ(refused(99'999, 1023, 1024), "");
  EXPECT_EQ(refused(-1, 0, 1), "");
  EXPECT_EQ(refused(billion, 0, 1), "layer 1000000000; allowed: -1 to 99999");
  EXPECT_EQ(refused(most, 0, 1), "layer 2147483647; allowed: -1 to 99999");
  EXPECT_EQ(refused(-2, 0, 1), "layer -2; allowed: -1 to 99999");
  EXPECT_EQ(refused(0, most, 2), "ubatch 2147483647; allowed: 0 to 1");
  EXPECT_EQ(refused(0, -1, 2), "ubatch -1; allowed: 0 to 1");
  EXPECT_EQ(refused(0, 0, billion), "num_ubatches 1000000000; allowed: 1 to 1024");
  EXPECT_EQ(refused(0, 0, 0), "num_ubatches 0; allowed: 1 to 1024");
  refused(0, most, 2);
  EXPECT_NE(input_error_of([&] { chrome_trace(PolicyFolder(folder_.path())); }), "");
}

TEST_F(Claims, TablesWithoutTheirRows) {
  {
    const hdf5::Handle<H5Fclose> file(H5Fopen(name().c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    H5Ldelete(file.get(), "/schedule/1", H5P_DEFAULT);
    const hdf5::Type row(H5Tcreate(H5T_COMPOUND, 4));
    H5Tinsert(row.get(), "layer", 0, H5T_STD_I32LE);
    const hsize_t rows = static_cast<hsize_t>(kHuge);
    const hdf5::Space space(H5Screate_simple(1, &rows, nullptr));
    const hdf5::Handle<H5Dclose> table(H5Dcreate2(
        file.get(), "/schedule/1", row.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    ASSERT_TRUE(table);
  }
  EXPECT_EQ(input_error_of([&] { static_cast<void>(RankFile(path_).schedules()); }),
            name() +
                ": /schedule/1: its shape asks for 4398046511104 bytes, but the file holds 0 "
                "of it");
}

TEST_F(Claims, OneTableUnderManyNames) {
  {
    const std::int32_t num_ops = 100'000;
    const std::vector<std::int32_t> zeros(static_cast<std::size_t>(num_ops));
    const std::vector<std::string> texts(static_cast<std::size_t>(num_ops));
    change([&](auto& file) {
      file.write_table("/schedule/2",
                       {{"layer", zeros},
                        {"ubatch", zeros},
                        {"phase", texts},
                        {"lane", texts},
                        {"waits", texts},
                        {"group", zeros}});
      file.create_attribute("/schedule/2", {attribute::kName, std::string("x")});
      file.create_attribute("/schedule/2", {attribute::kNumUbatches, std::int64_t{1}});
      file.create_attribute("/schedule/2", {attribute::kDigest, std::string()});
    });
    const hdf5::Handle<H5Fclose> file(H5Fopen(name().c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    for (int k = 3; k < 50; ++k) {
      const std::string link = "/schedule/" + std::to_string(k);
      H5Lcreate_hard(file.get(), "/schedule/2", file.get(), link.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    }
  }
  const auto message = input_error_of([&] { static_cast<void>(RankFile(path_).schedules()); });
  EXPECT_EQ(message, name() + ": /schedule/43: ops up to 4200004; allowed: 0 to 4194304");
}

TEST_F(Claims, AGroupThatHoldsItself) {
  const auto before = RankFile(path_).numeric_datasets();
  {
    const hdf5::Handle<H5Fclose> file(H5Fopen(name().c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    for (const char* link : {"/timing/host/loop", "/timing/loop"}) {
      H5Lcreate_hard(file.get(), "/timing", file.get(), link, H5P_DEFAULT, H5P_DEFAULT);
    }
    H5Lcreate_hard(file.get(), "/", file.get(), "/timing/root", H5P_DEFAULT, H5P_DEFAULT);
  }
  EXPECT_EQ(RankFile(path_).numeric_datasets(), before);
}

TEST_F(Claims, TimesThatAreNone) {
  static constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const auto refused = [&] {
    auto message = input_error_of([&] { static_cast<void>(read_profiles(RankFile(path_))); });
    reset();
    return message;
  };
  const auto fill = [&](const char* dataset, std::size_t count, std::int64_t value) {
    change([&](auto& file) {
      const std::vector<std::int64_t> values(count, value);
      file.open_dataset(dataset).write(std::as_bytes(std::span(values)));
    });
  };
  const auto prepare = [&] {  // both profiled steps ran schedule 1
    fill(path::kProfiledSchedule, 2, 1);
  };
  prepare();
  fill(path::kProfiledStepNs, 12, most);
  EXPECT_EQ(refused(), name() + ": /timing/profiled_step_ns: 9223372036854775807 ns is no time");
  prepare();
  fill(path::kHandOffWaitNs, 6, most);
  EXPECT_EQ(refused(),
            name() + ": /timing/host/hand_off_wait_ns: 9223372036854775807 ns is no time");
  change([](auto& file) {
    file.update_attribute(path::kTiming, {attribute::kClockOffsetNs, most});
  });
  EXPECT_EQ(refused(),
            name() + ": /timing: clock_offset_ns 9223372036854775807 is no offset of a clock");
}

/// Reports are JSON, which holds nothing else.
TEST_F(Claims, TextsThatAreNotUtf8) {
  change([](auto& file) {
    file.create_attribute("/", {attribute::kLink, std::string("20 \xb5s, \xc2\xb5s")});
    file.create_attribute("/", {"caf\xe9", std::string("x")});
    file.update_attribute("/", {attribute::kFailure, std::string("\xff")});
  });
  const RankFile file(path_);
  EXPECT_EQ(file.link(), "20 \xef\xbf\xbds, \xc2\xb5s");
  EXPECT_EQ(file.failure(), "\xef\xbf\xbd");
  for (const auto& one : file.attributes()) {
    EXPECT_NO_THROW(nlohmann::json(one.name).dump());
    if (const auto* text = std::get_if<std::string>(&one.value)) {
      EXPECT_NO_THROW(nlohmann::json(*text).dump()) << one.name;
    }
  }
}

TEST_F(Claims, NamesThatAreNotUtf8) {
  change([](auto& file) { file.create_dataset("/output/\xff", DType::float32, {6, 5}); });
  expect_refused("/output", "holds a name that is not UTF-8");
}

/// Also an attribute that a file need not have: looking for it fails.
TEST_F(Claims, ADamagedAttribute) {
  auto bytes = test::read_file(path_);
  const auto place = bytes.find(std::string("columns\0", 8));
  ASSERT_NE(place, std::string::npos);
  bytes[place - 6] = 5;  // the length of the name, by the format of an attribute message
  test::write_file(path_, bytes);
  EXPECT_TRUE(refused().starts_with(name() + ": /timing/decision@columns: ")) << refused();
}

/// HDF5 would take the length of a text from the file and read and write beyond its memory.
TEST_F(Claims, ATextThatHdf5CannotSurvive) {
  const auto good = test::read_file(path_);
  const auto heap = good.find("GCOL");
  ASSERT_NE(heap, std::string::npos);
  for (const std::uint64_t length : {14'649ULL, 0x7fffffff0ULL, ~0ULL}) {
    auto bytes = good;
    for (std::size_t i = 0; i < 8; ++i) {  // of the heap's first object, by the format
      bytes[heap + 24 + i] = static_cast<char>(length >> (8 * i));
    }
    test::write_file(path_, bytes);
    EXPECT_EQ(refused(), name() + ": the texts at byte " + std::to_string(heap) + " are damaged");
  }
}

TEST_F(Claims, MoreThanFitsIntoMemory) {
  EXPECT_EQ(input_error_of([] {
              detail::as_input_error("a.h5: /output/hidden", [] { throw std::bad_alloc(); });
            }),
            "a.h5: /output/hidden: does not fit into memory");
}

/// What others have compressed stays readable.
TEST_F(Claims, CompressedDatasetsAreRead) {
  constexpr std::size_t count = 100'000;
  {
    const hdf5::Handle<H5Fclose> file(H5Fopen(name().c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    const hsize_t lengths[2] = {count, 1};
    const hdf5::Space space(H5Screate_simple(2, lengths, nullptr));
    const hdf5::Handle<H5Pclose> creation(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_chunk(creation.get(), 2, lengths);
    H5Pset_deflate(creation.get(), 9);
    const hdf5::Handle<H5Dclose> made(H5Dcreate2(file.get(),
                                                 "/output/zeros",
                                                 H5T_IEEE_F32LE,
                                                 space.get(),
                                                 H5P_DEFAULT,
                                                 creation.get(),
                                                 H5P_DEFAULT));
    const std::vector<float> zeros(count);
    ASSERT_GE(H5Dwrite(made.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros.data()),
              0);
    ASSERT_LT(H5Dget_storage_size(made.get()), 1000U);
  }
  EXPECT_EQ(RankFile(path_).read_floats("/output/zeros").values, std::vector<float>(count));
}

}  // namespace
}  // namespace dovetail
