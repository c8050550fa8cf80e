#include "models/weights/mapped_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

/// Closes a file descriptor at the end of a scope; a mapping outlives it.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}

  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }

  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&&) = delete;
  Descriptor& operator=(Descriptor&&) = delete;

  int value() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw InputError(path, 0, 0, std::string(what) + ": " + std::generic_category().message(errno));
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.value() < 0) {
    fail(path_, "cannot open");
  }

  struct stat status {};

  if (::fstat(file.value(), &status) != 0) {
    fail(path_, "cannot read its size");
  }
  if (!S_ISREG(status.st_mode)) {
    throw InputError(path_, 0, 0, "not a regular file");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) {
    return;  // the system refuses to map nothing
  }
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value(), 0);
  if (address == MAP_FAILED) {
    fail(path_, "cannot map");
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
