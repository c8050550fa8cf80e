// What happens before the constructors of shared libraries, which cost LibTorch a third of a second
// of a core in each process.
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sched.h>

#include "framework/mpi/start_order.hpp"

namespace dovetail {
namespace {

/// Of Open MPI's mpirun; -1 = not set. The C library's environment is not there yet.
int number_of(char** environment, const char* name) {
  const auto length = std::strlen(name);
  for (; *environment != nullptr; ++environment) {
    if (std::strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') {
      return std::atoi(*environment + length + 1);  // NOLINT(cert-err34-c): 0 delays nothing
    }
  }
  return -1;
}

void let_first_rank_go_ahead(int argc, char** argv, char** environment) {
  cpu_set_t cores;
  if (argc < 2 || std::strcmp(argv[1], "run") != 0 ||
      sched_getaffinity(0, sizeof cores, &cores) != 0) {
    return;
  }
  const int delay_ms = start_delay_ms(number_of(environment, "OMPI_COMM_WORLD_RANK"),
                                      number_of(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"),
                                      CPU_COUNT(&cores));
  const timespec delay = {delay_ms / 1000, delay_ms % 1000 * 1'000'000L};
  nanosleep(&delay, nullptr);
}

// The dynamic linker calls what is in this section before any constructor.
__attribute__((section(".preinit_array"),
               used)) void (*const kEarlyStart)(int, char**, char**) = let_first_rank_go_ahead;

}  // namespace
}  // namespace dovetail
