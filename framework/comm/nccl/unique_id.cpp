#include "framework/comm/nccl/unique_id.hpp"

#include <cstring>
#include <string>

#include "framework/base/error.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {

ncclUniqueId exchange_id(const MpiComm& ranks, const WaitPolicy& wait) {
  ncclUniqueId id{};
  std::string bytes;
  if (ranks.rank() == 0) {
    const auto result = ncclGetUniqueId(&id);
    // An empty text tells the others that there is no id.
    if (result == ncclSuccess) {
      bytes.assign(id.internal, sizeof id.internal);
    }
  }
  broadcast_text(ranks, bytes, wait);
  if (bytes.size() != sizeof id.internal) {
    throw RunError("rank 0 of the NCCL communicator could not make a unique id");
  }
  std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  return id;
}

}  // namespace dovetail
