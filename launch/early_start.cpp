// What happens before the constructors of shared libraries, which cost LibTorch a third of a second
// of a core in each process.
#include "launch/early_start.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

namespace dovetail {
namespace {

/// The C library's environment is not there yet. Null = not set.
const char* value_of(char** environment, const char* name) {
  const auto length = std::strlen(name);
  for (; *environment != nullptr; ++environment) {
    if (std::strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') {
      return *environment + length + 1;
    }
  }
  return nullptr;
}

/// -1 = not set.
int number_of(char** environment, const char* name) {
  const char* value = value_of(environment, name);
  return value == nullptr ? -1 : std::atoi(value);  // NOLINT(cert-err34-c): 0 delays nothing
}

/// A request to stop that comes before SignalWatch is there would end the process in silence: it
/// stays pending for it. SIGTERM and SIGINT ask for the end that they bring by themselves.
void keep_stop_request() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGUSR1);
  sigprocmask(SIG_BLOCK, &stop, nullptr);  // NOLINT(concurrency-mt-unsafe): there is one thread
}

void let_first_rank_go_ahead(char** environment) {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) {
    return;
  }
  const GoAheadFile file(value_of(environment, GoAheadFile::kFolderVariable),
                         value_of(environment, GoAheadFile::kJobVariable));
  int left_ms = start_delay_ms({number_of(environment, "OMPI_COMM_WORLD_RANK"),
                                number_of(environment, "OMPI_COMM_WORLD_LOCAL_RANK"),
                                number_of(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")},
                               CPU_COUNT(&cores));
  constexpr int look_ms = 20;
  for (; left_ms > 0 && !(file.is_known() && access(file.path(), F_OK) == 0); left_ms -= look_ms) {
    const timespec pause = {0, look_ms * 1'000'000L};
    nanosleep(&pause, nullptr);
  }
}

void start_early(int argc, char** argv, char** environment) {
  if (argc >= 2 && std::strcmp(argv[1], "run") == 0) {
    keep_stop_request();
    let_first_rank_go_ahead(environment);
  }
}

// The dynamic linker calls what is in this section before any constructor.
__attribute__((section(".preinit_array"),
               used)) void (*const kEarlyStart)(int, char**, char**) = start_early;

}  // namespace

// NOLINTBEGIN(concurrency-mt-unsafe): nothing writes the environment
GoAhead::GoAhead()
    : file_(std::getenv(GoAheadFile::kFolderVariable), std::getenv(GoAheadFile::kJobVariable)) {
  // NOLINTEND(concurrency-mt-unsafe)
  if (file_.is_known()) {  // where it cannot be made, the others wait for their time to pass
    close(open(file_.path(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  }
}

GoAhead::~GoAhead() {
  if (file_.is_known()) {
    unlink(file_.path());
  }
}

}  // namespace dovetail
