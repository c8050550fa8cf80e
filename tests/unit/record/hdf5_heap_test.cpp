// Texts of variable length: places that are damaged are found before HDF5 reads them.
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/record/hdf5.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using hdf5::Access;
using hdf5::File;
using hdf5::Hdf5Error;
using test::TempFolder;

/// Texts of all lengths up to some that have a collection of their own; returns the file's bytes.
std::string write_texts(const std::string& path) {
  {
    auto file = File::create(path);
    for (int i = 0; i < 24; ++i) {
      const auto length = static_cast<std::size_t>(i * i * 17);
      file.create_attribute("/", {"text_" + std::to_string(i), std::string(length, 'x')});
    }
    file.write_text("/config", std::string(9000, 'y'));
    // What looks like a collection in the elements of a dataset is none.
    auto dataset = file.create_dataset("/output", DType::uint8, {4096});
    std::vector<std::byte> elements(4096);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      elements[i] = static_cast<std::byte>("GCOL"[i % 4]);
    }
    dataset.write(elements);
  }
  return test::read_file(path);
}

TEST(Hdf5, TextsOfOtherLengthsThanTheirPlaceAreRefused) {
  const TempFolder folder;
  const auto path = (folder.path() / "texts.h5").string();
  const auto good = write_texts(path);
  EXPECT_NO_THROW(File::open(path, Access::read).check_text_heaps());
  int num_objects = 0;
  // The first collection: each object's length and index, a little too small and far too large.
  const auto begin = good.find(std::string("GCOL\1\0\0\0", 8));
  ASSERT_NE(begin, std::string::npos);
  ASSERT_EQ(begin % 8, 0U);
  for (std::size_t at = begin + 16; at + 16 <= begin + 4096;) {
    std::uint64_t length = 0;
    std::memcpy(&length, good.data() + at + 8, sizeof length);
    const bool is_free = good[at] == 0 && good[at + 1] == 0;
    for (const std::uint64_t damaged : {length + 8, length + 5000, ~std::uint64_t{0}}) {
      auto bytes = good;
      std::memcpy(bytes.data() + at + 8, &damaged, sizeof damaged);
      const auto other = (folder.path() / "damaged.h5").string();
      std::ofstream(other, std::ios::binary) << bytes;
      EXPECT_THROW(File::open(other, Access::read).check_text_heaps(), Hdf5Error)
          << "object at " << at << ", " << length << " as " << damaged;
    }
    ++num_objects;
    if (is_free) {
      break;
    }
    at += 16 + (length + 7) / 8 * 8;
  }
  EXPECT_GT(num_objects, 5);
}

}  // namespace
}  // namespace dovetail
