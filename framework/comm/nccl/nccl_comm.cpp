#include "framework/comm/nccl/nccl_comm.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/base/log.hpp"
#include "framework/comm/nccl/abort_word.hpp"
#include "framework/comm/nccl/poll.hpp"
#include "framework/comm/nccl/unique_id.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/nccl_version.hpp"

namespace dovetail {
namespace {

using Clock = std::chrono::steady_clock;

// The end of a run must not hang on a peer that is gone.
constexpr std::chrono::milliseconds kLongestFinalize{10'000};

// An abort reaches kernels at once, but returns only when no graph refers to the communicator.
constexpr std::chrono::milliseconds kLongestAbort{1'000};

bool is_failure(ncclResult_t result) {
  return result != ncclSuccess && result != ncclInProgress;
}

std::string error_text(ncclResult_t result, ncclComm_t comm) {
  std::string text = ncclGetErrorString(result);
  const char* last = ncclGetLastError(comm);
  if (last != nullptr && *last != '\0') {
    text += std::string(" (last message of NCCL: ") + last + ")";
  }
  return text;
}

void check_library_once() {
  static std::once_flag checked;
  std::call_once(checked, [] { check_nccl(find_nccl()); });
}

}  // namespace

struct NcclComm::State {
  // NCCL keeps the pointer to the text.
  std::shared_ptr<const std::string> name;
  int rank = 0;
  int size = 0;
  std::chrono::milliseconds finalize_timeout = kLongestFinalize;

  // Guards comm and failed: ncclCommGetAsyncError joins NCCL's thread, so it must not run twice at
  // once, and abort() may come from a watchdog.
  std::timed_mutex mutex;
  ncclComm_t comm = nullptr;
  std::atomic<bool> failed{false};
  AbortWord abort_word;

  std::string where(std::string_view what) const {
    return std::string(what) + " (NCCL communicator " + *name + ", rank " + std::to_string(rank) +
           ")";
  }

  // Requires the mutex.
  void require_usable(std::string_view what) const {
    if (comm == nullptr || failed) {
      throw RunError(where(what) + ": the communicator was aborted or has failed earlier");
    }
  }

  // Requires the mutex. True once nothing is in progress.
  bool is_settled(std::string_view what) {
    require_usable(what);
    ncclResult_t state = ncclInProgress;
    const auto result = ncclCommGetAsyncError(comm, &state);
    const auto found = is_failure(result) ? result : state;
    if (is_failure(found)) {
      failed = true;
      throw RunError(where(what) + ": " + error_text(found, comm));
    }
    return found == ncclSuccess;
  }

  /// In a thread of its own, waited for with a bound. A thread that is still inside of NCCL by then
  /// holds the mutex, and nothing can be aborted under it.
  void abort() noexcept {
    failed = true;
    abort_word.raise();  // memory that own kernels use goes with the communicator
    try {
      std::unique_lock lock(mutex, kLongestAbort);
      if (!lock.owns_lock() || comm == nullptr) {
        return;
      }
      std::promise<ncclResult_t> ended;
      auto result = ended.get_future();
      std::thread([made = std::exchange(comm, nullptr),
                   text = name,
                   ended = std::move(ended)]() mutable {
        ended.set_value(ncclCommAbort(made));
      }).detach();
      if (result.wait_for(kLongestAbort) != std::future_status::ready) {
        log_line("aborting the NCCL communicator " + *name + " takes long; it goes on by itself");
      } else if (is_failure(result.get())) {
        log_line("aborting the NCCL communicator " + *name + " failed");
      }
    } catch (...) {
      log_line("an NCCL communicator could not be aborted");
    }
  }

  // Never throws but for memory; the caller aborts where this returns false.
  bool finalize() {
    const std::lock_guard lock(mutex);
    if (comm == nullptr || failed) {
      return comm == nullptr;
    }
    ncclResult_t state = ncclInProgress;
    if (is_failure(ncclCommGetAsyncError(comm, &state)) || state != ncclSuccess ||
        is_failure(ncclCommFinalize(comm))) {
      return false;
    }
    const auto deadline = Clock::now() + finalize_timeout;
    do {
      if (is_failure(ncclCommGetAsyncError(comm, &state)) || is_failure(state)) {
        return false;
      }
      if (state == ncclSuccess) {
        return ncclCommDestroy(std::exchange(comm, nullptr)) == ncclSuccess;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    } while (Clock::now() < deadline);
    return false;
  }

  ~State() {
    try {
      if (!finalize()) {
        log_line("the NCCL communicator " + *name + " did not end by itself and is aborted");
        abort();
      }
    } catch (...) {
      abort();
    }
  }

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  State(State&&) = delete;
  State& operator=(State&&) = delete;
};

NcclComm::NcclComm(const MpiComm& ranks, const NcclOptions& options, const WaitPolicy& wait)
    : state_(std::make_unique<State>()) {
  check_library_once();
  DOVETAIL_CHECK(options.max_ctas.value_or(1) >= 1,
                 "max_ctas " + std::to_string(*options.max_ctas));
  state_->name = std::make_shared<const std::string>(options.name);
  state_->rank = ranks.rank();
  state_->size = ranks.size();
  state_->finalize_timeout = std::min(wait.timeout, kLongestFinalize);
  auto id = exchange_id(ranks, wait);

  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  if (options.max_ctas) {  // NCCL refuses a minimum without a maximum
    config.minCTAs = 1;
    config.maxCTAs = *options.max_ctas;
  }
  // No clusters: groups of CTAs that must start together in one part of the chip would wait for
  // compute kernels to leave it.
  config.cgaClusterSize = 0;
  config.commName = state_->name->c_str();
  ncclComm_t made = nullptr;
  const auto result = ncclCommInitRankConfig(&made, state_->size, id, state_->rank, &config);
  {
    const std::lock_guard lock(state_->mutex);
    state_->comm = made;
    state_->failed = is_failure(result);
  }
  if (is_failure(result) || made == nullptr) {
    throw RunError(state_->where("set-up") + ": " + error_text(result, nullptr));
  }
  // Until this ends the communicator cannot be used by anyone; ~State aborts it when it throws.
  settle(wait, "set-up");
}

NcclComm::~NcclComm() = default;
NcclComm::NcclComm(NcclComm&&) noexcept = default;
NcclComm& NcclComm::operator=(NcclComm&&) noexcept = default;

ncclComm_t NcclComm::raw() const {
  return state_->comm;
}

int NcclComm::rank() const {
  return state_->rank;
}

int NcclComm::size() const {
  return state_->size;
}

void NcclComm::call(const std::function<ncclResult_t(ncclComm_t)>& calls,
                    const WaitPolicy& wait,
                    std::string_view what) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->require_usable(what);
    auto result = ncclGroupStart();
    if (result == ncclSuccess) {
      result = calls(state_->comm);
      // The group has to be closed whatever happened in it; the first error is the one to tell.
      const auto end = ncclGroupEnd();
      result = is_failure(result) ? result : end;
    }
    if (is_failure(result)) {
      state_->failed = true;
      throw RunError(state_->where(what) + ": " + error_text(result, state_->comm));
    }
  }
  settle(wait, what);
}

void NcclComm::settle(const WaitPolicy& wait, std::string_view what) {
  try {
    poll_until(
        [&] {
          const std::lock_guard lock(state_->mutex);
          return state_->is_settled(what);
        },
        wait,
        state_->where(what));
  } catch (...) {
    const std::lock_guard lock(state_->mutex);
    state_->failed = true;
    throw;
  }
}

void NcclComm::check_async() {
  // Whoever is inside of NCCL now sees its errors.
  const std::unique_lock lock(state_->mutex, std::try_to_lock);
  if (lock.owns_lock()) {
    state_->is_settled("asynchronous error");
  } else if (state_->failed) {
    throw RunError(state_->where("asynchronous error") + ": the communicator has failed");
  }
}

void NcclComm::broadcast(const at::Tensor& tensor, int root, const WaitPolicy& wait) {
  DOVETAIL_CHECK(tensor.defined() && tensor.is_cuda() && tensor.is_contiguous(),
                 "broadcast takes a contiguous tensor on a GPU");
  DOVETAIL_CHECK(root >= 0 && root < size(), "root " + std::to_string(root));
  if (tensor.nbytes() == 0 || size() == 1) {
    return;
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  void* data = tensor.mutable_data_ptr();
  call(
      [&](ncclComm_t comm) {
        return ncclBroadcast(data, data, tensor.nbytes(), ncclInt8, root, comm, stream.stream());
      },
      wait,
      "broadcast");
  cudaEvent_t done = nullptr;
  check_cuda(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "cudaEventCreate");
  try {
    check_cuda(cudaEventRecord(done, stream.stream()), "cudaEventRecord");
    wait_for_event(done, wait, state_->where("broadcast"));
  } catch (...) {
    static_cast<void>(cudaEventDestroy(done));
    throw;
  }
  check_cuda(cudaEventDestroy(done), "cudaEventDestroy");
}

bool NcclComm::has_failed() const {
  return state_->failed;
}

const std::uint32_t* NcclComm::abort_word() {
  return state_->abort_word.get();
}

bool NcclComm::end_own_waits() noexcept {
  if (!state_) {
    return false;
  }
  state_->failed = true;
  return state_->abort_word.raise();
}

void NcclComm::abort() noexcept {
  if (state_) {
    state_->abort();
  }
}

}  // namespace dovetail
