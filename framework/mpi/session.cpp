#include "framework/mpi/session.hpp"

#include <exception>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {

MpiSession::MpiSession(int* argc, char*** argv) : exceptions_at_start_(std::uncaught_exceptions()) {
  int provided = MPI_THREAD_SINGLE;
  DOVETAIL_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided));
  if (provided < MPI_THREAD_MULTIPLE) {
    throw RunError("this MPI library gives no MPI_THREAD_MULTIPLE; Dovetail needs it");
  }
  const MpiComm everyone = world();
  rank_ = Rank(everyone.rank());
  world_size_ = everyone.size();
  MPI_Comm node = MPI_COMM_NULL;
  DOVETAIL_MPI(
      MPI_Comm_split_type(everyone.raw(), MPI_COMM_TYPE_SHARED, rank_.value, MPI_INFO_NULL, &node));
  DOVETAIL_MPI(MPI_Comm_rank(node, &local_rank_));
  DOVETAIL_MPI(MPI_Comm_size(node, &local_size_));
  DOVETAIL_MPI(MPI_Comm_free(&node));
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  DOVETAIL_MPI(MPI_Get_processor_name(name, &length));
  host_.assign(name, static_cast<std::size_t>(length));
}

MpiSession::~MpiSession() {
  // While an exception escapes, peers may be inside a collective: finalising would wait for them
  // for ever.
  if (std::uncaught_exceptions() == exceptions_at_start_) {
    MPI_Finalize();
  }
}

MpiComm MpiSession::world() const {
  return MpiComm::duplicate(MPI_COMM_WORLD);
}

std::string MpiSession::library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  return text;  // ends at the first zero; Open MPI counts it in the length
}

std::string MpiSession::compiled_version() {
  return "Open MPI " + std::to_string(OMPI_MAJOR_VERSION) + "." +
         std::to_string(OMPI_MINOR_VERSION) + "." + std::to_string(OMPI_RELEASE_VERSION);
}

}  // namespace dovetail
