// Owning MPI communicator. Always a duplicate or a split, never the world one, so that kinds of
// traffic cannot mix.
#pragma once

#include <mpi.h>

namespace dovetail {

/// Move-only owner; an empty one is legal (rank() and size() then throw). Errors are returned and
/// checked, not fatal.
class MpiComm {
 public:
  MpiComm() = default;
  ~MpiComm();
  MpiComm(const MpiComm&) = delete;
  MpiComm& operator=(const MpiComm&) = delete;
  MpiComm(MpiComm&& other) noexcept;
  MpiComm& operator=(MpiComm&& other) noexcept;

  /// A duplicate of `parent`. Collective over parent.
  static MpiComm duplicate(MPI_Comm parent);

  /// The part of `parent` with this colour, ordered by key. Collective over parent.
  static MpiComm split(MPI_Comm parent, int colour, int key);

  MPI_Comm raw() const { return comm_; }

  int rank() const;
  int size() const;

 private:
  explicit MpiComm(MPI_Comm comm);

  MPI_Comm comm_ = MPI_COMM_NULL;
};

}  // namespace dovetail
