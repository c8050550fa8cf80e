#include <algorithm>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <string_view>

#include "framework/record/hdf5_check.hpp"

namespace dovetail::hdf5 {
namespace {

// "Global Heap" in HDF5's file format specification, version 3: a collection is its head, then
// objects, each a head and bytes that are padded to 8; the object of index 0 is what is free. A
// head begins with the signature, version 1 and three zeroes, else the library refuses it.
constexpr std::string_view kSignature("GCOL\1\0\0\0", 8);
constexpr std::uint64_t kAlignment = 8;
constexpr std::uint64_t kHead = 16;
/// Read at once.
constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;

/// From `begin` up to `end`, bytes of the file.
struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

template <class T>
T little_endian(const char* bytes) {
  T value = 0;
  std::memcpy(&value, bytes, sizeof value);  // as all machines that we build for
  return value;
}

/// Where the elements of contiguous datasets are, ascending.
std::vector<Extent> raw_data(hid_t file,
                             const std::vector<std::string>& datasets,
                             const std::string& name) {
  std::vector<Extent> extents;
  for (const auto& path : datasets) {
    const std::string where = std::string(name).append(": ").append(path);
    const Handle<H5Dclose> dataset(DOVETAIL_HDF5(where, H5Dopen2, file, path.c_str(), H5P_DEFAULT));
    const haddr_t begin = H5Dget_offset(dataset.get());  // undefined where there is no one place
    if (begin != HADDR_UNDEF) {
      extents.push_back(
          {begin,
           detail::saturating_sum<std::uint64_t>(begin, H5Dget_storage_size(dataset.get()))});
    }
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin < b.begin;
  });
  return extents;
}

/// What is left of `size` bytes without the extents.
std::vector<Extent> gaps(const std::vector<Extent>& extents, std::uint64_t size) {
  std::vector<Extent> left;
  std::uint64_t begin = 0;
  for (const auto& extent : extents) {
    if (extent.begin > begin) {
      left.push_back({begin, std::min(extent.begin, size)});
    }
    begin = std::max(begin, extent.end);
  }
  if (begin < size) {
    left.push_back({begin, size});
  }
  return left;
}

/// Fewer where the file ends.
std::string read_bytes(std::ifstream& file, std::uint64_t at, std::uint64_t count) {
  std::string bytes(count, '\0');
  file.clear();
  file.seekg(static_cast<std::streamoff>(at));
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

/// Whether the objects of the collection of `size` bytes at `begin` fill it one behind the other,
/// each of another index.
bool is_filled(std::ifstream& file, std::uint64_t begin, std::uint64_t size) {
  std::set<std::uint16_t> indices;
  std::uint64_t at = kHead;
  while (at <= size && size - at >= kHead) {
    const auto head = read_bytes(file, begin + at, kHead);
    if (head.size() < kHead) {
      return false;
    }
    const auto index = little_endian<std::uint16_t>(head.data());
    const auto length = little_endian<std::uint64_t>(head.data() + 8);
    if (index == 0) {
      return length == size - at;
    }
    if (!indices.insert(index).second || length > size - at - kHead) {
      return false;
    }
    at += kHead + (length + kAlignment - 1) / kAlignment * kAlignment;
  }
  return at <= size;
}

/// Where the collection at `begin` ends; nothing where it is damaged.
std::optional<std::uint64_t> end_of_collection(std::ifstream& file,
                                               std::uint64_t begin,
                                               std::uint64_t file_size) {
  const auto head = read_bytes(file, begin, kHead);
  const auto size =
      head.size() < kHead ? 0 : little_endian<std::uint64_t>(head.data() + kSignature.size());
  const bool is_whole = size >= kHead && size <= file_size - begin && is_filled(file, begin, size);
  return is_whole ? std::optional(begin + size) : std::nullopt;
}

/// The first collection at or behind `begin`, which is aligned; `end` where there is none.
std::uint64_t find_collection(std::ifstream& file, std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t block = begin; block < end; block += kBlock) {
    const auto bytes = read_bytes(file, block, std::min(kBlock, end - block));
    for (std::size_t i = 0; i + kAlignment <= bytes.size(); i += kAlignment) {
      if (bytes.compare(i, kAlignment, kSignature) == 0) {
        return block + i;
      }
    }
  }
  return end;
}

}  // namespace

void File::check_text_heaps() const {
  std::ifstream file(path_, std::ios::binary | std::ios::ate);
  const auto file_size = static_cast<std::uint64_t>(std::max<std::streamoff>(file.tellg(), 0));
  haddr_t end_of_file = 0;
  DOVETAIL_HDF5(path_, H5Fget_eoa, handle_.get(), &end_of_file);
  // What stands behind the end no writer of ours has put there; to search it may take hours.
  if (file_size > end_of_file) {
    throw Hdf5Error(path_ + ": the file goes on for " + std::to_string(file_size - end_of_file) +
                    " bytes behind its end, byte " + std::to_string(end_of_file) +
                    "; something else was written into it");
  }
  for (const auto& gap : gaps(raw_data(handle_.get(), datasets(), path_), file_size)) {
    const std::uint64_t first = (gap.begin + kAlignment - 1) / kAlignment * kAlignment;
    std::uint64_t at = find_collection(file, first, gap.end);
    while (at < gap.end) {
      const auto end = end_of_collection(file, at, file_size);
      if (!end) {
        throw Hdf5Error(path_ + ": the texts at byte " + std::to_string(at) + " are damaged");
      }
      const std::uint64_t next = (*end + kAlignment - 1) / kAlignment * kAlignment;
      at = find_collection(file, next, gap.end);
    }
  }
}

}  // namespace dovetail::hdf5
