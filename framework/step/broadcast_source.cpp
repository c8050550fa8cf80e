#include "framework/step/broadcast_source.hpp"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/mpi/check.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include "framework/step/cuda/stream_wait.hpp"
#endif

namespace dovetail {
namespace {

constexpr int kRoot = 0;
constexpr std::int64_t kChunkBytes = 16 << 20;  // far below the int count of MPI

/// What rank 0 tells before any data: how its part went.
struct Status {
  std::int32_t exit_code = kExitDone;
  std::int32_t answer = 0;  ///< of has(); of read(): whether rank 0's destination is on a GPU
  std::int64_t message_bytes = 0;  ///< of the error's text
};

}  // namespace

BroadcastSource::BroadcastSource(WeightSource* inner,
                                 const MpiComm& dp_group,
                                 WaitPolicy wait,
                                 DeviceBroadcast device_broadcast)
    : inner_(inner),
      dp_group_(dp_group),
      wait_(std::move(wait)),
      device_broadcast_(std::move(device_broadcast)) {
  DOVETAIL_CHECK((inner_ != nullptr) == (dp_group_.rank() == kRoot),
                 "the first rank of a dp group has a source, the others have none");
}

/// Runs `act` on rank 0, makes its errors everyone's, and returns its answer on all ranks.
template <class Act>
std::int32_t BroadcastSource::share(const std::string& what, Act act) const {
  // On the heap: a broadcast that was given up may still write to them (see broadcast()).
  auto status = std::make_unique<Status>();
  auto message = std::make_unique<std::string>();
  std::exception_ptr failure;
  if (inner_ != nullptr) {
    try {
      status->answer = act();
    } catch (const Error& error) {
      failure = std::current_exception();
      status->exit_code = error.exit_code();
      *message = error.what();
    } catch (const std::exception& error) {
      failure = std::current_exception();
      status->exit_code = kExitRunFailure;
      *message = error.what();
    }
    status->message_bytes = static_cast<std::int64_t>(message->size());
  }
  try {
    broadcast(reinterpret_cast<std::byte*>(status.get()), sizeof(Status), what);
    message->resize(static_cast<std::size_t>(status->message_bytes));
    broadcast(reinterpret_cast<std::byte*>(message->data()), status->message_bytes, what);
  } catch (...) {
    static_cast<void>(status.release());
    static_cast<void>(message.release());
    throw;
  }
  all_have_failed_ = status->exit_code != kExitDone;
  if (failure != nullptr) {
    std::rethrow_exception(failure);
  }
  if (status->exit_code == kExitBadInput) {
    throw InputError(*message);
  }
  if (status->exit_code != kExitDone) {
    throw RunError(*message);
  }
  return status->answer;
}

bool BroadcastSource::has(const std::string& name) const {
  return share("weights: has '" + name + "'", [&] { return inner_->has(name) ? 1 : 0; }) != 0;
}

bool BroadcastSource::is_stored(const std::string& name) const {
  return share("weights: stores '" + name + "'", [&] { return inner_->is_stored(name) ? 1 : 0; }) !=
         0;
}

void BroadcastSource::read(const WeightRequest& request) {
  const RequestedElements wanted = check_request(request);
  const bool on_gpu = request.destination.is_cuda();
  const bool has_replicas = dp_group_.size() > 1;
  DOVETAIL_CHECK(!on_gpu || !has_replicas || device_broadcast_ != nullptr,
                 "weights: no broadcast between GPUs was given");
  const std::string what = "weights: broadcast of '" + request.name + "'";
  const bool root_on_gpu = share(what, [&] { return read_on_root(request, what); }) != 0;
  DOVETAIL_CHECK(root_on_gpu == on_gpu, what + ": a GPU on one side only");
  try {
    if (!on_gpu) {
      broadcast(wanted.data, static_cast<std::int64_t>(request.destination.nbytes()), what);
    } else if (has_replicas && wanted.count > 0) {
      at::Tensor destination = request.destination;
      device_broadcast_(destination);
    }
  } catch (...) {
    // The destination may still be written to: it must stay alive until the process ends.
    static_cast<void>(std::make_unique<at::Tensor>(request.destination).release());
    throw;
  }
}

/// Returns whether the destination is on a GPU; what was enqueued there has then happened, so that
/// its errors are known before the others are told that all is well.
std::int32_t BroadcastSource::read_on_root(const WeightRequest& request, const std::string& what) {
  inner_->read(request);
  if (!request.destination.is_cuda()) {
    return 0;
  }
#ifdef DOVETAIL_WITH_CUDA
  wait_for_current_stream(request.destination.device(), wait_, what);
#else
  static_cast<void>(what);
#endif
  return 1;
}

/// Throws what wait_all throws; the buffer may then still be in use.
void BroadcastSource::broadcast(std::byte* data,
                                std::int64_t bytes,
                                const std::string& what) const {
  if (bytes == 0 || dp_group_.size() == 1) {
    return;
  }
  std::vector<MPI_Request> requests;
  for (std::int64_t done = 0; done < bytes; done += kChunkBytes) {
    const auto count = static_cast<int>(std::min(kChunkBytes, bytes - done));
    DOVETAIL_MPI(
        MPI_Ibcast(data + done, count, MPI_BYTE, kRoot, dp_group_.raw(), &requests.emplace_back()));
  }
  wait_all(requests, wait_, what);
}

}  // namespace dovetail
