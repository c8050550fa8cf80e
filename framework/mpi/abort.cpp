#include "framework/mpi/abort.hpp"

#include <chrono>
#include <system_error>
#include <thread>
#include <unistd.h>

#include <mpi.h>

namespace dovetail {

void abort_world(int exit_code) noexcept {
  try {
    // A thread that is stuck inside MPI may hold what MPI_Abort needs.
    std::thread([exit_code] {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      _exit(exit_code);
    }).detach();
  } catch (const std::system_error&) {  // no thread to be had: MPI_Abort must do
  }
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized != 0 && finalized == 0) {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }
  _exit(exit_code);
}

}  // namespace dovetail
