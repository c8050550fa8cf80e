// Point-to-point messages of one call of an exchange, waited for together, and blamed on the peer
// that is late.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <mpi.h>

#include "framework/mpi/wait.hpp"

namespace dovetail {

/// A committed MPI datatype of `bytes` contiguous bytes: counts of messages are then rows, so that
/// a message may exceed the 2^31 - 1 bytes that an int count of bytes allows.
class RowDatatype {
 public:
  /// Throws ContractError unless 1 <= bytes <= 2^31 - 1.
  explicit RowDatatype(std::int64_t bytes);
  ~RowDatatype();
  RowDatatype(const RowDatatype&) = delete;
  RowDatatype& operator=(const RowDatatype&) = delete;
  RowDatatype(RowDatatype&&) = delete;
  RowDatatype& operator=(RowDatatype&&) = delete;

  MPI_Datatype raw() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

/// What a message is, on which communicator and under which tag.
struct MessageKind {
  const char* content = "";  ///< for messages to people: "rows", "counts", ...
  MPI_Comm comm = MPI_COMM_NULL;
  int tag = 0;
  MPI_Datatype type = MPI_DATATYPE_NULL;
};

/// Throws RunError if `count` is no MPI count (0 to 2^31 - 1 rows); returns it as one.
int message_count(std::int64_t count);

/// Requests and whom they wait for. Not thread-safe; after a failed wait the messages stay pending
/// and their buffers must stay alive until abandon() says that nothing is in flight.
class PeerMessages {
 public:
  /// `count` elements of kind.type; none are posted for count 0 (both sides know the counts).
  void receive(const MessageKind& kind, int peer, void* data, std::int64_t count);
  void send(const MessageKind& kind, int peer, const void* data, std::int64_t count);

  /// Returns when all are done and forgets them. TimeoutError: "<what>: not done within N ms;
  /// waiting for rows from ep rank 2, ...".
  void wait(const WaitPolicy& policy, const std::string& what);

  bool empty() const { return requests_.empty(); }

  /// Cancels what can be cancelled. True if no message can touch its buffer any more; false if some
  /// may (a send that no one received, a receive under way). Never blocks.
  bool abandon() noexcept;

 private:
  struct Entry {
    const char* content;
    bool receives;
    int peer;
  };

  MPI_Request& add(const Entry& entry);
  std::string unfinished() const;

  std::vector<MPI_Request> requests_;
  std::vector<Entry> entries_;
};

}  // namespace dovetail
