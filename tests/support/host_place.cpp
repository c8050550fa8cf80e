#include "tests/support/host_place.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

#include <mpi.h>

#include "framework/base/hash.hpp"
#include "framework/mpi/check.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

HostPlace find_host_place() {
  Fnv1a name;
  name.add_bytes(session().host());
  const std::uint64_t own = name.value();
  std::vector<std::uint64_t> hosts(static_cast<std::size_t>(world_size()));
  DOVETAIL_MPI(
      MPI_Allgather(&own, 1, MPI_UINT64_T, hosts.data(), 1, MPI_UINT64_T, session().world().raw()));
  HostPlace place{.index = 0, .num_ranks = 0};
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    if (hosts[rank] == own) {
      place.index += static_cast<int>(rank) < world_rank() ? 1 : 0;
      ++place.num_ranks;
    }
  }
  return place;
}

}  // namespace

const HostPlace& host_place() {
  static const HostPlace place = find_host_place();
  return place;
}

bool are_ranks_apart() {
  return host_place().num_ranks < world_size();
}

}  // namespace dovetail::test
