#include "framework/mpi/peer_processes.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <type_traits>
#include <unistd.h>

#include "framework/base/hash.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

struct ProcessStatus {
  char state = 0;  ///< 0 = there is no such process
  std::int64_t start_ticks = 0;
};

/// From /proc/PID/stat, in which a name in brackets comes second and may hold anything.
ProcessStatus status_of(std::int64_t pid) {
  constexpr int fields_between = 18;  // of the state and the time of the start
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text, '\0');
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return {};
  }
  std::istringstream fields(text.substr(name_end + 1));
  ProcessStatus status;
  fields >> status.state;
  std::string skipped;
  for (int i = 0; i < fields_between; ++i) {
    fields >> skipped;
  }
  fields >> status.start_ticks;
  return status;
}

}  // namespace

ProcessPlace own_process_place() {
  ProcessPlace place;
  place.pid = getpid();
  place.start_ticks = status_of(place.pid).start_ticks;
  gethostname(static_cast<char*>(place.host_name), sizeof place.host_name - 1);
  Fnv1a host;
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  std::getline(file, boot);
  host.add_bytes(boot);
  std::error_code ignored;
  host.add_bytes(std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string());
  place.host = host.value();
  return place;
}

bool has_ended(const ProcessPlace& place) {
  if (place.start_ticks == 0) {
    return false;  // no /proc: nothing is known
  }
  const auto status = status_of(place.pid);
  return status.state == 0 || status.state == 'Z' || status.state == 'X' ||
         status.start_ticks != place.start_ticks;
}

PeerProcesses::PeerProcesses(const MpiComm& comm)
    : own_(comm.rank()), places_(static_cast<std::size_t>(comm.size())) {
  static_assert(std::is_trivially_copyable_v<ProcessPlace>);
  constexpr int bytes = sizeof(ProcessPlace);
  const auto own = own_process_place();
  DOVETAIL_MPI(MPI_Allgather(&own, bytes, MPI_BYTE, places_.data(), bytes, MPI_BYTE, comm.raw()));
}

}  // namespace dovetail
