#include "framework/comm/exchange/peer_messages.hpp"

#include <limits>

#include "framework/base/check.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMaxCount = std::numeric_limits<int>::max();

// A cancelled receive completes locally; MPI may need a few calls to notice.
constexpr int kCancelPolls = 100;

bool mpi_is_open() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized == 0;
}

}  // namespace

RowDatatype::RowDatatype(std::int64_t bytes) {
  DOVETAIL_CHECK(bytes >= 1 && bytes <= kMaxCount,
                 "a row of " + std::to_string(bytes) + " bytes; MPI takes 1 to 2^31 - 1");
  DOVETAIL_MPI(MPI_Type_contiguous(static_cast<int>(bytes), MPI_BYTE, &type_));
  DOVETAIL_MPI(MPI_Type_commit(&type_));
}

RowDatatype::~RowDatatype() {
  // MPI keeps the type alive for messages that are still in flight.
  if (mpi_is_open() && MPI_Type_free(&type_) != MPI_SUCCESS) {
    log_line("freeing a datatype failed");
  }
}

int message_count(std::int64_t count) {
  if (count < 0 || count > kMaxCount) {
    throw RunError("a message of " + counted(count, "row") + "; one message holds 0 to 2^31 - 1");
  }
  return static_cast<int>(count);
}

void PeerMessages::receive(const MessageKind& kind, int peer, void* data, std::int64_t count) {
  if (const int rows = message_count(count); rows > 0) {
    MPI_Request& request = add({kind.content, true, peer});
    DOVETAIL_MPI(MPI_Irecv(data, rows, kind.type, peer, kind.tag, kind.comm, &request));
  }
}

void PeerMessages::send(const MessageKind& kind, int peer, const void* data, std::int64_t count) {
  if (const int rows = message_count(count); rows > 0) {
    MPI_Request& request = add({kind.content, false, peer});
    DOVETAIL_MPI(MPI_Isend(data, rows, kind.type, peer, kind.tag, kind.comm, &request));
  }
}

MPI_Request& PeerMessages::add(const Entry& entry) {
  // The place comes first: once MPI knows a request, nothing may throw before it is kept.
  entries_.push_back(entry);
  return requests_.emplace_back(MPI_REQUEST_NULL);
}

void PeerMessages::wait(const WaitPolicy& policy, const std::string& what) {
  try {
    wait_all(requests_, policy, what);
  } catch (const TimeoutError& error) {
    throw TimeoutError(error.what() + unfinished());
  }
  requests_.clear();
  entries_.clear();
}

std::string PeerMessages::unfinished() const {
  std::string text;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    int done = 0;
    if (requests_[i] == MPI_REQUEST_NULL ||
        (MPI_Request_get_status(requests_[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS &&
         done != 0)) {
      continue;
    }
    text += std::string(text.empty() ? "; waiting for " : ", ") + entries_[i].content +
            (entries_[i].receives ? " from" : " to be taken by") + " ep rank " +
            std::to_string(entries_[i].peer);
  }
  return text;
}

bool PeerMessages::abandon() noexcept {
  if (requests_.empty()) {
    return true;
  }
  if (!mpi_is_open()) {
    return false;
  }
  bool all_done = true;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    // Sends cannot be cancelled (Open MPI does nothing, MPI 4 deprecates it).
    if (requests_[i] != MPI_REQUEST_NULL && entries_[i].receives) {
      MPI_Cancel(&requests_[i]);
    }
    int done = 0;
    for (int polls = 0; done == 0 && polls < kCancelPolls; ++polls) {
      if (MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
        break;
      }
    }
    all_done = all_done && done != 0;
  }
  return all_done;
}

}  // namespace dovetail
