// The processes of all ranks: whoever has lost a peer can find out whether it is gone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/mpi/comm.hpp"

namespace dovetail {

/// Where a process can be looked for, and how it is told from a later one of the same number.
struct ProcessPlace {
  std::int64_t pid = 0;
  std::int64_t start_ticks = 0;  ///< since its host was started
  std::uint64_t host = 0;        ///< a hash of the host's boot and of the space of process numbers
  char host_name[64] = {};       ///< ends with a zero
};

/// Of the calling process.
ProcessPlace own_process_place();

/// Whether a process of this host has ended, also where nobody has waited for it yet.
bool has_ended(const ProcessPlace& place);

/// Immutable. Any thread.
class PeerProcesses {
 public:
  /// Collective. Blocks inside MPI: start-up only.
  explicit PeerProcesses(const MpiComm& comm);

  /// Whether the rank is on this host, so that is_gone() can tell.
  bool is_here(int rank) const { return place(rank).host == place(own_).host; }

  /// Its process has ended; false for ranks of other hosts.
  bool is_gone(int rank) const { return is_here(rank) && has_ended(place(rank)); }

  std::string host(int rank) const { return place(rank).host_name; }

 private:
  const ProcessPlace& place(int rank) const { return places_[static_cast<std::size_t>(rank)]; }

  int own_;
  std::vector<ProcessPlace> places_;  ///< by rank
};

}  // namespace dovetail
