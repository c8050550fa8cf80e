#include "framework/mpi/comm.hpp"

#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/log.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {

MpiComm::MpiComm(MPI_Comm comm) : comm_(comm) {
  DOVETAIL_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
}

MpiComm::~MpiComm() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (comm_ != MPI_COMM_NULL && finalized == 0 && MPI_Comm_free(&comm_) != MPI_SUCCESS) {
    log_line("freeing a communicator failed");
  }
}

MpiComm::MpiComm(MpiComm&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}

MpiComm& MpiComm::operator=(MpiComm&& other) noexcept {
  MpiComm taken(std::move(other));
  std::swap(comm_, taken.comm_);
  return *this;
}

MpiComm MpiComm::duplicate(MPI_Comm parent) {
  MPI_Comm copy = MPI_COMM_NULL;
  DOVETAIL_MPI(MPI_Comm_dup(parent, &copy));
  return MpiComm(copy);
}

MpiComm MpiComm::split(MPI_Comm parent, int colour, int key) {
  MPI_Comm part = MPI_COMM_NULL;
  DOVETAIL_MPI(MPI_Comm_split(parent, colour, key, &part));
  return MpiComm(part);
}

int MpiComm::rank() const {
  DOVETAIL_CHECK(comm_ != MPI_COMM_NULL, "empty communicator");
  int rank = 0;
  DOVETAIL_MPI(MPI_Comm_rank(comm_, &rank));
  return rank;
}

int MpiComm::size() const {
  DOVETAIL_CHECK(comm_ != MPI_COMM_NULL, "empty communicator");
  int size = 0;
  DOVETAIL_MPI(MPI_Comm_size(comm_, &size));
  return size;
}

}  // namespace dovetail
