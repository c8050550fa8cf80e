#include "framework/mpi/session.hpp"

#include <exception>
#include <type_traits>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

/// Of all ranks of a host, by local rank. Blocks inside MPI: start-up only.
std::vector<CpuLimits> gather_limits(MPI_Comm node, int local_size) {
  static_assert(std::is_trivially_copyable_v<CpuLimits>);
  constexpr int bytes = sizeof(CpuLimits);
  const CpuLimits own = read_cpu_limits();
  std::vector<CpuLimits> limits(static_cast<std::size_t>(local_size));
  DOVETAIL_MPI(MPI_Allgather(&own, bytes, MPI_BYTE, limits.data(), bytes, MPI_BYTE, node));
  return limits;
}

}  // namespace

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
  const auto limits = gather_limits(node, local_size_);
  cpus_ = cpu_share(limits, static_cast<std::size_t>(local_rank_));
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
