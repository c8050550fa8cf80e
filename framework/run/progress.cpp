#include "framework/run/progress.hpp"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace dovetail {

Progress::Progress(bool is_first_rank) {
  // mpirun gives its ranks a pipe; the start script knows whether a person is at the other end.
  const char* asked = std::getenv("DOVETAIL_PROGRESS");  // NOLINT(concurrency-mt-unsafe): read only
  is_shown_ = is_first_rank && (isatty(STDERR_FILENO) == 1 || asked != nullptr);
}

Progress::~Progress() {
  if (is_shown_) {
    std::fputs("\r\033[K", stderr);
  }
}

void Progress::show(const std::string& policy, int finished, int all) {
  if (is_shown_) {
    std::fprintf(stderr, "\r\033[K%s: iteration %d of %d", policy.c_str(), finished, all);
    std::fflush(stderr);
  }
}

}  // namespace dovetail
