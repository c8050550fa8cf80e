// h5py and h5dump read our files, with the values that we read. Fails where h5py is absent.
#include <cmath>
#include <cstdlib>

#include <gtest/gtest.h>

#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using test::full_spec;
using test::TempFolder;

/// Compares one dataset of h5py's dump with our reader, element by element.
void expect_same(const RankFile& file, const std::string& path, const nlohmann::json& theirs) {
  ASSERT_EQ(theirs.at("shape").get<hdf5::Shape>(), file.shape(path)) << path;
  const auto& values = theirs.at("values");
  const auto compare_integers = [&](const auto& ours) {
    ASSERT_EQ(values.size(), ours.size()) << path;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      ASSERT_EQ(values[i].get<std::int64_t>(), ours[i]) << path << " element " << i;
    }
  };
  switch (file.dtype(path)) {
    case DType::int64:
      compare_integers(file.read<std::int64_t>(path).values);
      return;
    case DType::int32:
      compare_integers(file.read<std::int32_t>(path).values);
      return;
    default:
      break;
  }
  const auto ours = file.read_floats(path).values;
  ASSERT_EQ(values.size(), ours.size()) << path;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const auto text = values[i].get<std::string>();
    const double number = std::strtod(text.c_str(), nullptr);
    ASSERT_TRUE(std::isnan(ours[i]) ? std::isnan(number) : number == static_cast<double>(ours[i]))
        << path << " element " << i << ": " << text << " against " << ours[i];
  }
}

TEST(H5py, ReadsEveryDatasetAsWeDo) {
  TempFolder folder;
  const auto full = folder.path() / "rank-00000.h5";
  const auto untouched = folder.path() / "rank-00001.h5";
  const auto spec = full_spec();
  test::write_full_file(full, spec);
  { RankRecorder recorder(untouched, full_spec(1, 2)); }
  const auto dump = test::h5py_dump({full, untouched});
  for (const auto& path : {full, untouched}) {
    const RankFile file(path);
    const auto& datasets = dump.at(path.string()).at("datasets");
    for (const auto& name : file.numeric_datasets()) {
      ASSERT_TRUE(datasets.contains(name)) << name;
      expect_same(file, name, datasets.at(name));
    }
  }
  const auto& found = dump.at(full.string());
  EXPECT_EQ(found.at("datasets").at("/output/hidden").at("dtype"), "float32");  // bfloat16
  EXPECT_EQ(found.at("datasets").at("/output/layer_0").at("dtype"), "float16");
  EXPECT_EQ(found.at("datasets").at("/config").at("values").at(0), spec.config);
  EXPECT_EQ(found.at("attributes").at("status"), "complete");
  EXPECT_EQ(found.at("attributes").at("schema_version"), kSchemaVersion);
  EXPECT_EQ(found.at("attributes").at("argv"), "dovetail run x.yaml");
  EXPECT_EQ(dump.at(untouched.string()).at("attributes").at("status"), "running");
  const nlohmann::json row = {{"layer", 0},
                              {"ubatch", 1},
                              {"phase", "shared_experts"},
                              {"lane", "compute"},
                              {"waits", "0,1"},
                              {"group", -1}};
  EXPECT_EQ(found.at("datasets").at("/schedule/1").at("values").at(2), row);
}

TEST(H5py, ReadsBfloat16Values) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  auto spec = full_spec();
  // One, the smallest and the largest normal number, the smallest subnormal, both infinities, NaN,
  // minus zero.
  const std::vector<std::uint16_t> bits = {
      0x3f80, 0x0080, 0x7f7f, 0x0001, 0x7f80, 0xff80, 0x7fc0, 0x8000};
  spec.outputs = {{"hidden", DType::bfloat16, {1, 8}}};
  {
    RankRecorder recorder(path, spec);
    recorder.write("/output/hidden", DType::bfloat16, std::as_bytes(std::span(bits)));
  }
  const auto dump = test::h5py_dump({path});
  const nlohmann::json expected = {"0x1.0000000000000p+0",
                                   "0x1.0000000000000p-126",
                                   "0x1.fe00000000000p+127",
                                   "0x1.0000000000000p-133",
                                   "inf",
                                   "-inf",
                                   "nan",
                                   "-0x0.0p+0"};
  EXPECT_EQ(dump.at(path.string()).at("datasets").at("/output/hidden").at("values"), expected);
}

TEST(H5py, RefusesACutFile) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_full_file(path, full_spec());
  EXPECT_NO_THROW(test::h5py_dump({path}));
  const auto bytes = test::read_file(path);
  test::write_file(path, bytes.substr(0, bytes.size() / 2));
  EXPECT_THROW(test::h5py_dump({path}), std::runtime_error);
}

}  // namespace
}  // namespace dovetail
