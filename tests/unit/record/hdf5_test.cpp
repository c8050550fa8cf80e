// The layer over HDF5: identifiers, element types, boxes, attributes, text, tables, silence.
#include "framework/record/hdf5.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/half.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using hdf5::Access;
using hdf5::File;
using hdf5::Hdf5Error;
using hdf5::Shape;
using test::TempFolder;

int closes = 0;

herr_t count_close(hid_t) {
  ++closes;
  return -1;
}

TEST(Hdf5Handle, ClosesOnceAndMovedFromIsEmpty) {
  closes = 0;
  {
    hdf5::Handle<count_close> first(3);
    hdf5::Handle<count_close> second(std::move(first));
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
    EXPECT_EQ(second.get(), 3);
    hdf5::Handle<count_close> third(4);
    third = std::move(second);
    EXPECT_EQ(closes, 1);
    EXPECT_EQ(third.get(), 3);
    auto& alias = third;
    third = std::move(alias);
    EXPECT_EQ(third.get(), 3);
  }
  EXPECT_EQ(closes, 2);
  hdf5::Handle<count_close> last(5);
  EXPECT_LT(last.close(), 0);  // reports what the close function answers
  EXPECT_FALSE(last);
}

TEST(Hdf5, ErrorsNameFileCallAndReasonAndPrintNothing) {
  TempFolder folder;
  const auto path = (folder.path() / "absent.h5").string();
  ::testing::internal::CaptureStderr();
  try {
    File::open(path, Access::read);
    ADD_FAILURE() << "no exception";
  } catch (const Hdf5Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find(path + ": H5Fopen: "), 0U) << text;
    EXPECT_NE(text.find("No such file"), std::string::npos) << text;
    EXPECT_EQ(error.exit_code(), kExitRunFailure);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Hdf5, CreateNeverReplaces) {
  TempFolder folder;
  const auto path = folder.path() / "a.h5";
  test::write_file(path, "precious");
  EXPECT_THROW(File::create(path.string()), Hdf5Error);
  EXPECT_EQ(test::read_file(path), "precious");
}

class EveryDType : public ::testing::TestWithParam<DType> {};

TEST_P(EveryDType, RoundTripsRandomBytesAndShowsFill) {
  const DType dtype = GetParam();
  std::mt19937_64 random(test::fresh_seed("EveryDType"));
  TempFolder folder;
  const auto path = (folder.path() / "a.h5").string();
  const Shape shape = {3, 4, 5};
  std::vector<std::byte> bytes(60 * size_of(dtype));
  for (auto& byte : bytes) {
    byte = static_cast<std::byte>(random());
  }
  {
    auto file = File::create(path);
    file.create_dataset("/group/written", dtype, shape).write(bytes);
    file.create_dataset("/group/untouched", dtype, shape);
    file.create_dataset("/scalar", dtype, {});
    file.create_dataset("/empty", dtype, {0, 4});
    file.close();
  }
  const auto file = File::open(path, Access::read);
  const auto read = [&](const char* name) {
    const auto dataset = file.open_dataset(name);
    EXPECT_EQ(dataset.dtype(), dtype);
    std::vector<std::byte> found(static_cast<std::size_t>(dataset.num_bytes()), std::byte{0x55});
    dataset.read(found);
    return found;
  };
  EXPECT_EQ(read("/group/written"), bytes);
  EXPECT_EQ(file.open_dataset("/group/written").shape(), shape);
  const auto fill = hdf5::fill_value(dtype);
  EXPECT_EQ(fill.size(), size_of(dtype));
  std::vector<std::byte> filled;
  for (int i = 0; i < 60; ++i) {
    filled.insert(filled.end(), fill.begin(), fill.end());
  }
  EXPECT_EQ(read("/group/untouched"), filled);
  EXPECT_EQ(read("/scalar"), fill);
  EXPECT_EQ(read("/empty").size(), 0U);
  EXPECT_EQ(file.open_dataset("/empty").shape(), (Shape{0, 4}));
}

INSTANTIATE_TEST_SUITE_P(Hdf5,
                         EveryDType,
                         ::testing::Values(DType::float32,
                                           DType::float16,
                                           DType::bfloat16,
                                           DType::float64,
                                           DType::int32,
                                           DType::int64,
                                           DType::uint8),
                         [](const auto& one) { return std::string(to_string(one.param)); });

// Every bit pattern, against HDF5's own conversion to float32, which is slower but not ours.
TEST(Half, EveryPatternConvertsAsHdf5Does) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    std::vector<std::uint32_t> patterns(65536);
    for (std::uint32_t i = 0; i < patterns.size(); ++i) {
      patterns[i] = 0;
      reinterpret_cast<std::uint16_t*>(patterns.data())[i] = static_cast<std::uint16_t>(i);
    }
    // In place: 65536 elements of 2 bytes become 65536 of 4.
    ASSERT_GE(H5Tconvert(hdf5::make_type(dtype).get(),
                         H5T_NATIVE_FLOAT,
                         patterns.size(),
                         patterns.data(),
                         nullptr,
                         H5P_DEFAULT),
              0);
    for (std::uint32_t i = 0; i < patterns.size(); ++i) {
      float theirs = 0;
      std::memcpy(&theirs, &patterns[i], sizeof(theirs));
      const auto bits = static_cast<std::uint16_t>(i);
      const float ours =
          dtype == DType::bfloat16 ? bfloat16_to_float(bits) : float16_to_float(bits);
      if (std::isnan(theirs)) {
        ASSERT_TRUE(std::isnan(ours)) << std::hex << i;
      } else {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(ours), patterns[i])
            << to_string(dtype) << " 0x" << std::hex << i << ": " << ours << " against " << theirs;
      }
    }
  }
}

// Boxes against a plain loop over a copy in memory.
TEST(Hdf5, BoxesLandWhereIndicesSay) {
  std::mt19937_64 random(test::fresh_seed("Boxes"));
  TempFolder folder;
  auto file = File::create((folder.path() / "a.h5").string());
  const Shape shape = {4, 3, 5};
  auto dataset = file.create_dataset("/a", DType::int64, shape);
  std::vector<std::int64_t> expected(60, -1);
  for (std::int64_t round = 1; round <= 100; ++round) {
    Shape start(3);
    Shape count(3);
    for (std::size_t i = 0; i < 3; ++i) {
      start[i] = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(shape[i] + 1));
      count[i] =
          static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(shape[i] - start[i] + 1));
    }
    std::vector<std::int64_t> values;
    for (std::int64_t i = 0; i < count[0]; ++i) {
      for (std::int64_t j = 0; j < count[1]; ++j) {
        for (std::int64_t k = 0; k < count[2]; ++k) {
          values.push_back(test::origin(round, static_cast<std::int64_t>(values.size())));
          const auto index = ((start[0] + i) * shape[1] + start[1] + j) * shape[2] + start[2] + k;
          expected[static_cast<std::size_t>(index)] = values.back();
        }
      }
    }
    dataset.write_box(start, count, std::as_bytes(std::span(values)));
    std::vector<std::int64_t> back(values.size(), 0);
    dataset.read_box(start, count, std::as_writable_bytes(std::span(back)));
    ASSERT_EQ(back, values);
  }
  std::vector<std::int64_t> all(60);
  dataset.read(std::as_writable_bytes(std::span(all)));
  EXPECT_EQ(all, expected);
}

TEST(Hdf5, BoxesOutOfRangeAreRefused) {
  TempFolder folder;
  auto file = File::create((folder.path() / "a.h5").string());
  auto dataset = file.create_dataset("/a", DType::int32, {4, 3});
  std::vector<std::byte> bytes(12);
  EXPECT_NO_THROW(dataset.write_box({3, 0}, {1, 3}, bytes));
  EXPECT_THROW(dataset.write_box({4, 0}, {1, 3}, bytes), ContractError);
  EXPECT_THROW(dataset.write_box({-1, 0}, {1, 3}, bytes), ContractError);
  EXPECT_THROW(dataset.write_box({3, 1}, {1, 3}, bytes), ContractError);
  EXPECT_THROW(dataset.write_box({3}, {1}, bytes), ContractError);
  EXPECT_THROW(dataset.write_box({3, 0}, {1, 2}, bytes), ContractError);
  EXPECT_THROW(dataset.write(bytes), ContractError);
}

TEST(Hdf5, AttributesRoundTripAndChangeInPlace) {
  TempFolder folder;
  const auto path = (folder.path() / "a.h5").string();
  const std::string long_text(100'000, 'x');  // beyond the 64 KiB of an object header
  {
    auto file = File::create(path);
    file.create_group("/g/h");
    file.create_attribute("/g/h", {"text", std::string("gr\xc3\xbc\xc3\x9f")});
    file.create_attribute("/g/h", {"empty", std::string()});
    file.create_attribute("/g/h", {"long", long_text});
    file.create_attribute("/g/h", {"integer", std::int64_t{-5}});
    file.create_attribute("/g/h", {"real", 0.1});
    file.create_fixed_text("/", "status", 16, "running");
    file.close();
  }
  {
    auto file = File::open(path, Access::read_write);
    file.update_attribute("/g/h", {"integer", std::int64_t{6}});
    file.update_attribute("/g/h", {"real", 0.5});
    file.update_attribute("/", {"status", std::string("complete")});
    EXPECT_THROW(file.update_attribute("/g/h", {"text", std::string("y")}), ContractError);
    EXPECT_THROW(file.update_attribute("/g/h", {"integer", 1.0}), ContractError);
    EXPECT_THROW(file.update_attribute("/g/h", {"real", std::int64_t{1}}), ContractError);
    EXPECT_THROW(file.update_attribute("/g/h", {"absent", std::int64_t{1}}), Hdf5Error);
  }
  const auto file = File::open(path, Access::read);
  const std::vector<hdf5::Attribute> expected = {{"empty", std::string()},
                                                 {"integer", std::int64_t{6}},
                                                 {"long", long_text},
                                                 {"real", 0.5},
                                                 {"text", std::string("gr\xc3\xbc\xc3\x9f")}};
  EXPECT_EQ(file.attributes("/g/h"), expected);
  EXPECT_EQ(file.attribute("/", "status"), hdf5::AttributeValue(std::string("complete")));
  EXPECT_TRUE(file.has_attribute("/", "status"));
  EXPECT_FALSE(file.has_attribute("/", "absent"));
  EXPECT_THROW(file.attribute("/", "absent"), Hdf5Error);
}

TEST(Hdf5, FixedTextIsCutBetweenCharacters) {
  TempFolder folder;
  auto file = File::create((folder.path() / "a.h5").string());
  file.create_fixed_text("/", "text", 4, "");
  const auto after = [&](const std::string& text) {
    file.update_attribute("/", {"text", text});
    return std::get<std::string>(file.attribute("/", "text"));
  };
  EXPECT_EQ(after("abcd"), "abcd");
  EXPECT_EQ(after("abcde"), "abcd");
  EXPECT_EQ(after("ab\xc3\xbc"), "ab\xc3\xbc");
  EXPECT_EQ(after("abc\xc3\xbc"), "abc");
  EXPECT_EQ(after("\xe2\x82\xac\xe2\x82\xac"), "\xe2\x82\xac");
  EXPECT_EQ(after(""), "");
}

/// The largest that is read is far above ours; a type of gigabytes must not be made room for.
TEST(Hdf5, TextBeyondTheLongestIsRefused) {
  TempFolder folder;
  const auto path = (folder.path() / "a.h5").string();
  {
    // Only a file of the newest format keeps attributes above 64 KiB.
    const hdf5::Handle<H5Pclose> access(H5Pcreate(H5P_FILE_ACCESS));
    H5Pset_libver_bounds(access.get(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    const hdf5::Handle<H5Fclose> file(
        H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access.get()));
    const hdf5::Space scalar(H5Screate(H5S_SCALAR));
    for (const std::size_t size : {std::size_t{1} << 20U, (std::size_t{1} << 20U) + 1}) {
      const hdf5::Type type(H5Tcopy(H5T_C_S1));
      H5Tset_size(type.get(), size);
      const hdf5::Handle<H5Aclose> made(H5Acreate2(file.get(),
                                                   ("text_" + std::to_string(size)).c_str(),
                                                   type.get(),
                                                   scalar.get(),
                                                   H5P_DEFAULT,
                                                   H5P_DEFAULT));
      ASSERT_TRUE(made);
      const std::string text(size, 'x');
      ASSERT_GE(H5Awrite(made.get(), type.get(), text.data()), 0);
    }
  }
  const auto file = File::open(path, Access::read);
  EXPECT_EQ(std::get<std::string>(file.attribute("/", "text_1048576")).size(), 1048576U);
  EXPECT_THROW(file.attribute("/", "text_1048577"), Hdf5Error);
}

TEST(Hdf5, TextAndTablesRoundTrip) {
  TempFolder folder;
  auto file = File::create((folder.path() / "a.h5").string());
  file.write_text("/config", "a: 1\n# \xc3\xbc\n");
  EXPECT_EQ(file.read_text("/config"), "a: 1\n# \xc3\xbc\n");
  const std::vector<hdf5::Column> table = {{"number", std::vector<std::int32_t>{1, -2, 3}},
                                           {"text", std::vector<std::string>{"", "longer", "x"}},
                                           {"empty", std::vector<std::string>{"", "", ""}}};
  file.write_table("/group/table", table);
  EXPECT_EQ(file.read_table("/group/table"), table);
  const std::vector<hdf5::Column> none = {{"number", std::vector<std::int32_t>{}}};
  file.write_table("/none", none);
  EXPECT_EQ(file.read_table("/none"), none);
  file.create_dataset("/numbers", DType::int64, {2});
  EXPECT_THROW(file.read_table("/numbers"), Hdf5Error);
  EXPECT_THROW(file.read_text("/numbers"), Hdf5Error);
  EXPECT_THROW(file.open_dataset("/config"), Hdf5Error);
  EXPECT_FALSE(file.dtype("/config"));
  EXPECT_EQ(file.datasets(),
            (std::vector<std::string>{"/config", "/group/table", "/none", "/numbers"}));
  EXPECT_TRUE(file.exists("/group/table"));
  EXPECT_FALSE(file.exists("/absent/table"));
  EXPECT_FALSE(file.exists("/config/below"));
}

TEST(Hdf5, CloseWithOpenDatasetFails) {
  TempFolder folder;
  auto file = File::create((folder.path() / "a.h5").string());
  {
    const auto dataset = file.create_dataset("/a", DType::int64, {2});
    EXPECT_THROW(file.close(), ContractError);
  }
  EXPECT_NO_THROW(file.close());
}

TEST(Hdf5, LoadedLibraryIsTheCompiledOne) {
  EXPECT_EQ(hdf5::compiled_version(), hdf5::loaded_version());
}

}  // namespace
}  // namespace dovetail
