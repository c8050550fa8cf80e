// Which GPU a rank of a test has.
#pragma once

namespace dovetail::test {

/// A rank among those of its host, by the host's name: ranks that are to share a GPU are told one
/// each (own_host.sh), where MPI still knows better.
struct HostPlace {
  int index = 0;
  int num_ranks = 1;
};

/// Collective over the world at the first call.
const HostPlace& host_place();

/// Whether ranks are on several hosts, or believe so. Collective likewise.
bool are_ranks_apart();

}  // namespace dovetail::test
