// For LD_PRELOAD: processes of one machine that believe to be on several hosts. They ask for the
// host's name, and get DOVETAIL_TEST_HOST.
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

// NOLINTNEXTLINE(readability-identifier-naming): the C library's
extern "C" int gethostname(char* name, std::size_t size) noexcept {
  const char* host = std::getenv("DOVETAIL_TEST_HOST");  // NOLINT(concurrency-mt-unsafe)
  const char* shown = host == nullptr ? "no-host" : host;
  if (std::strlen(shown) >= size) {
    errno = ENAMETOOLONG;
    return -1;
  }
  std::memcpy(name, shown, std::strlen(shown) + 1);
  return 0;
}
