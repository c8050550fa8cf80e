#include "models/weights/mapped_file.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "framework/base/input_file.hpp"

namespace dovetail {

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const InputFile file(path_, "a safetensors file");  // a mapping outlives its descriptor
  size_ = static_cast<std::size_t>(file.size());
  if (size_ == 0) {
    return;  // the system refuses to map nothing
  }
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (address == MAP_FAILED) {
    file.fail_with_errno();
  }
  begin_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (begin_ != nullptr) {
    ::munmap(const_cast<std::byte*>(begin_), size_);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      begin_(std::exchange(other.begin_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(begin_, other.begin_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::prefetch(std::span<const std::byte> range) const noexcept {
  advise(range, MADV_WILLNEED);
}

void MappedFile::release(std::span<const std::byte> range) const noexcept {
  advise(range, MADV_DONTNEED);
}

void MappedFile::advise(std::span<const std::byte> range, int advice) const noexcept {
  if (range.empty()) {
    return;
  }
  // Advice is per page: rounded outwards, which a read-only mapping always allows.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(range.data() - begin_);
  const std::size_t begin = offset / page * page;
  ::madvise(const_cast<std::byte*>(begin_) + begin, offset + range.size() - begin, advice);
}

}  // namespace dovetail
