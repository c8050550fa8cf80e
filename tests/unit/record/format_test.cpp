// What a rank file is made of, pinned: every dataset and attribute of schema version 3, with its
// type, its shape and, of attributes, the order in which they are written; but for /route/margin,
// which version 4 has given up. What later versions add is not pinned.
#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>

#include <gtest/gtest.h>

#include "framework/record/recorder.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using test::TempFolder;
using TypeHandle = hdf5::Handle<H5Tclose>;
using SpaceHandle = hdf5::Handle<H5Sclose>;

constexpr const char* kPinned = DOVETAIL_SOURCE_DIR "/tests/unit/record/format_v3.txt";

/// "int64", "text" (of any length), "text[16]", "{layer int32, ...}".
std::string name_type(hid_t type) {
  if (H5Tget_class(type) == H5T_STRING) {
    return H5Tis_variable_str(type) > 0 ? "text"
                                        : "text[" + std::to_string(H5Tget_size(type)) + "]";
  }
  if (H5Tget_class(type) == H5T_COMPOUND) {
    std::string text;
    for (int i = 0; i < H5Tget_nmembers(type); ++i) {
      const auto index = static_cast<unsigned>(i);
      char* name = H5Tget_member_name(type, index);
      const TypeHandle member(H5Tget_member_type(type, index));
      text += (text.empty() ? "" : ", ") + std::string(name) + " " + name_type(member.get());
      H5free_memory(name);
    }
    return "{" + text + "}";
  }
  for (const DType dtype : {DType::float32,
                            DType::float16,
                            DType::bfloat16,
                            DType::float64,
                            DType::int32,
                            DType::int64,
                            DType::uint8}) {
    if (H5Tequal(type, hdf5::make_type(dtype).get()) > 0) {
      return std::string(to_string(dtype));
    }
  }
  return "another type";
}

/// "", or " [4, 2]".
std::string name_shape(hid_t space) {
  hdf5::Shape shape;
  hsize_t lengths[H5S_MAX_RANK];
  const int dimensions = H5Sget_simple_extent_dims(space, lengths, nullptr);
  shape.assign(lengths, lengths + dimensions);
  return shape.empty() ? "" : " " + hdf5::to_string(shape);
}

/// Of version 5, as is the last column of schedules, and of version 6.
constexpr std::array<std::string_view, 4> kNewerAttributes = {
    "round_seed", "round_warmup", "rounds_began_ns", "iterations_run"};
constexpr std::string_view kNewerColumn = ", group int32";

std::string without_newer_columns(std::string text) {
  for (auto at = text.find(kNewerColumn); at != std::string::npos; at = text.find(kNewerColumn)) {
    text.erase(at, kNewerColumn.size());
  }
  return text;
}

void list_attributes(hid_t file, const std::string& object, std::ostream& lines) {
  const hdf5::Handle<H5Oclose> opened(H5Oopen(file, object.c_str(), H5P_DEFAULT));
  H5O_info_t info;
  ASSERT_GE(H5Oget_info2(opened.get(), &info, H5O_INFO_NUM_ATTRS), 0);
  for (hsize_t i = 0; i < info.num_attrs; ++i) {
    const hdf5::Handle<H5Aclose> one(H5Aopen_by_idx(opened.get(),
                                                    ".",
                                                    H5_INDEX_NAME,
                                                    H5_ITER_NATIVE,  // as they were written
                                                    i,
                                                    H5P_DEFAULT,
                                                    H5P_DEFAULT));
    char name[64];
    ASSERT_GT(H5Aget_name(one.get(), sizeof(name), name), 0);
    if (std::find(kNewerAttributes.begin(), kNewerAttributes.end(), name) !=
        kNewerAttributes.end()) {
      continue;
    }
    const TypeHandle type(H5Aget_type(one.get()));
    const SpaceHandle space(H5Aget_space(one.get()));
    lines << object << " @" << name << " " << name_type(type.get()) << name_shape(space.get())
          << "\n";
  }
}

bool is_newer(std::string_view path) {
  return std::any_of(kDatasetRows.begin(), kDatasetRows.end(), [path](const DatasetRow& row) {
    return row.path == path && row.since > 3;
  });
}

/// A line for each group's and dataset's attributes and for each dataset, by path.
std::string list_file(const std::filesystem::path& path) {
  std::ostringstream lines;
  std::vector<std::string> groups = {"/", path::kGraph, path::kMemory, path::kOutput};
  groups.insert(groups.end(), {path::kSchedule, path::kTiming, path::kTraffic});
  std::vector<std::string> objects;
  {
    const auto file = hdf5::File::open(path.string(), hdf5::Access::read);
    objects = file.datasets();
  }
  objects.insert(objects.end(), groups.begin(), groups.end());
  std::erase_if(objects, is_newer);
  std::sort(objects.begin(), objects.end());
  const hdf5::Handle<H5Fclose> file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  for (const auto& object : objects) {
    if (std::find(groups.begin(), groups.end(), object) == groups.end()) {
      const hdf5::Handle<H5Dclose> dataset(H5Dopen2(file.get(), object.c_str(), H5P_DEFAULT));
      const TypeHandle type(H5Dget_type(dataset.get()));
      const SpaceHandle space(H5Dget_space(dataset.get()));
      lines << object << " " << name_type(type.get()) << name_shape(space.get()) << "\n";
    }
    list_attributes(file.get(), object, lines);
  }
  return lines.str();
}

/// The datasets of a spec in the order in which they are created.
std::string list_spec(const RankFileSpec& spec) {
  std::ostringstream lines;
  auto datasets = rank_file_datasets(spec);
  std::erase_if(datasets, [](const DatasetSpec& dataset) { return is_newer(dataset.path); });
  for (const auto& dataset : datasets) {
    lines << dataset.path << " " << to_string(dataset.dtype)
          << (dataset.shape.empty() ? "" : " " + hdf5::to_string(dataset.shape)) << "\n";
  }
  return lines.str();
}

TEST(RankFileFormat, IsThatOfVersion3) {
  TempFolder folder;
  auto spec = test::full_spec();
  spec.has_mrope_positions = true;
  spec.attributes.push_back({attribute::kLink, std::string(kNoLink)});
  test::write_full_file(folder.path() / "rank-00000.h5", spec);
  const std::string found = "# in the file\n" +
                            without_newer_columns(list_file(folder.path() / "rank-00000.h5")) +
                            "# in order of creation\n" + list_spec(spec);
  EXPECT_EQ(found, test::read_file(kPinned));
}

}  // namespace
}  // namespace dovetail
