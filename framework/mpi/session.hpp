// MPI for the life of the process: the first object in main, the last to go.
#pragma once

#include <string>

#include "framework/base/cpu_share.hpp"
#include "framework/base/ids.hpp"
#include "framework/mpi/comm.hpp"

namespace dovetail {

/// Initialises MPI with MPI_THREAD_MULTIPLE and keeps what main needs to know of the world. Not
/// movable. Works without mpirun, too (one rank). Throws RunError where the library gives a lower
/// thread level. The destructor finalises MPI, unless the stack is unwinding.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  MpiSession(MpiSession&&) = delete;
  MpiSession& operator=(MpiSession&&) = delete;

  Rank rank() const { return rank_; }

  int world_size() const { return world_size_; }

  /// Rank and number of ranks on this host.
  int local_rank() const { return local_rank_; }

  int local_size() const { return local_size_; }

  const std::string& host() const { return host_; }

  /// This rank's part of the host's CPUs.
  const CpuShare& cpus() const { return cpus_; }

  /// A fresh communicator over the world. Collective.
  MpiComm world() const;

  /// The library's own version line, and the version of the headers that we were compiled with.
  static std::string library_version();
  static std::string compiled_version();

 private:
  int exceptions_at_start_ = 0;
  Rank rank_;
  int world_size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  std::string host_;
  CpuShare cpus_;
};

}  // namespace dovetail
