#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <set>
#include <string_view>

#include "framework/record/hdf5_check.hpp"

namespace dovetail::hdf5 {
namespace {

// "Global Heap" in HDF5's file format specification, version 3: a collection is its head, then
// objects, each a head and bytes that are padded to 8; the object of index 0 is what is free.
constexpr std::string_view kSignature = "GCOL";
constexpr std::uint64_t kAlignment = 8;
constexpr std::uint64_t kHead = 16;

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

std::string read_bytes(std::ifstream& file, std::uint64_t at, std::uint64_t count) {
  std::string bytes(count, '\0');
  file.clear();
  file.seekg(static_cast<std::streamoff>(at));
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

/// The collection's size where its objects, each of another index, fill it one behind the other;
/// else nothing. `bytes` begin with it.
std::optional<std::uint64_t> collection_size(std::string_view bytes, std::uint64_t size) {
  if (size < kHead || size > bytes.size()) {
    return std::nullopt;
  }
  std::set<std::uint16_t> indices;
  std::uint64_t at = kHead;
  while (size - at >= kHead) {
    const auto index = little_endian<std::uint16_t>(bytes.data() + at);
    const auto length = little_endian<std::uint64_t>(bytes.data() + at + 8);
    if (index == 0) {
      return length == size - at ? std::optional(size) : std::nullopt;
    }
    if (!indices.insert(index).second || length > size - at - kHead) {
      return std::nullopt;
    }
    at += kHead + (length + kAlignment - 1) / kAlignment * kAlignment;
    if (at > size) {
      return std::nullopt;
    }
  }
  return size;
}

}  // namespace

void File::check_text_heaps() const {
  std::ifstream file(path_, std::ios::binary | std::ios::ate);
  const auto file_size = static_cast<std::uint64_t>(std::max<std::streamoff>(file.tellg(), 0));
  for (const auto& gap : gaps(raw_data(handle_.get(), datasets(), path_), file_size)) {
    const auto bytes = read_bytes(file, gap.begin, gap.end - gap.begin);
    auto at = bytes.find(kSignature);
    while (at != std::string::npos) {
      std::uint64_t next = at + 1;
      if ((gap.begin + at) % kAlignment == 0 && bytes.size() - at >= kHead) {
        const auto size = collection_size(std::string_view(bytes).substr(at),
                                          little_endian<std::uint64_t>(bytes.data() + at + 8));
        if (!size) {
          throw Hdf5Error(path_ + ": the texts at byte " + std::to_string(gap.begin + at) +
                          " are damaged");
        }
        next = at + *size;
      }
      at = bytes.find(kSignature, next);
    }
  }
}

}  // namespace dovetail::hdf5
