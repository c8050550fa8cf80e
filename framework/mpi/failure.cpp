#include "framework/mpi/failure.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <string>
#include <thread>

#include "framework/base/log.hpp"
#include "framework/mpi/abort.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

constexpr int kFailureTag = 1;
constexpr int kInterruptTag = 2;
constexpr int kAcknowledgeTag = 3;
constexpr std::chrono::seconds kWaitForAcknowledgements{2};
constexpr std::chrono::seconds kWaitForAbort{3};

}  // namespace

PeerFailure::PeerFailure(Rank rank, int job_exit_code)
    : RunError("rank " + std::to_string(rank.value) + " has failed; this rank ends with it"),
      rank_(rank),
      job_exit_code_(job_exit_code) {}

FailureChannel::FailureChannel(const MpiComm& control)
    : comm_(control.raw()),
      rank_(control.rank()),
      acknowledged_(static_cast<std::size_t>(control.size()), false) {
  acknowledged_[static_cast<std::size_t>(rank_)] = true;
}

void FailureChannel::report(int exit_code, std::string_view message) noexcept {
  report_as(kFailureTag, exit_code, message);
}

void FailureChannel::report_interrupt(int exit_code, std::string_view message) noexcept {
  report_as(kInterruptTag, exit_code, message);
}

void FailureChannel::report_as(int tag, int exit_code, std::string_view message) noexcept {
  if (reported_.exchange(true)) {
    return;
  }
  const bool own = !message.empty() && !thrown_for_peer_;
  if (own && (tag == kFailureTag || rank_ == 0)) {
    print_once(message, tag == kInterruptTag ? interrupt_advice_ : std::string_view());
  }
  try {
    const std::lock_guard lock(mutex_);
    note_failure(rank_, exit_code);
    if (own) {
      sent_code_ = exit_code;
      told_ = true;
      for (int peer = 0; peer < static_cast<int>(acknowledged_.size()); ++peer) {
        if (peer != rank_) {
          send(peer, tag);
        }
      }
    }
  } catch (const std::exception& error) {
    log_line(error.what());  // the abort in end() tells the peers
  }
}

void FailureChannel::print_once(std::string_view message, std::string_view advice) noexcept {
  if (!printed_.exchange(true)) {
    log_line(message);
    if (!advice.empty()) {
      log_line(advice);
    }
  }
}

void FailureChannel::poll() {
  if (failed_rank_.load() < 0) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) {
      take_messages();
    }
  }
  const int failed = failed_rank_.load();
  if (failed < 0) {
    return;
  }
  if (failed != rank_) {
    thrown_for_peer_ = true;
  }
  throw PeerFailure(Rank(failed), exit_code_);
}

void FailureChannel::end() noexcept {
  using Clock = std::chrono::steady_clock;
  try {
    auto deadline = Clock::now() + kWaitForAbort;
    {
      const std::lock_guard lock(mutex_);
      if (told_) {
        deadline = Clock::now() + kWaitForAcknowledgements;
      }
    }
    while (!exchange_acknowledgements() && Clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  } catch (const std::exception& error) {
    log_line(error.what());
  }
  abort_world(exit_code_);
}

// The first failure that this rank knows of is the one that it ends for. With mutex_ held.
void FailureChannel::note_failure(int rank, int exit_code) {
  if (failed_rank_.load() < 0) {
    exit_code_ = exit_code;
    failed_rank_ = rank;
  }
}

// With mutex_ held.
void FailureChannel::take_messages() {
  for (const int tag : {kFailureTag, kInterruptTag, kAcknowledgeTag}) {
    for (;;) {
      int found = 0;
      MPI_Message message = MPI_MESSAGE_NULL;
      MPI_Status status;
      DOVETAIL_MPI(MPI_Improbe(MPI_ANY_SOURCE, tag, comm_, &found, &message, &status));
      if (found == 0) {
        break;
      }
      int exit_code = 0;
      DOVETAIL_MPI(MPI_Mrecv(&exit_code, 1, MPI_INT, &message, MPI_STATUS_IGNORE));
      const int source = status.MPI_SOURCE;
      if (tag == kAcknowledgeTag) {
        acknowledged_[static_cast<std::size_t>(source)] = true;
        continue;
      }
      failed_peers_.push_back(source);
      note_failure(source, exit_code);
      if (tag == kInterruptTag && rank_ == 0) {
        print_once("rank " + std::to_string(source) + " was interrupted by a signal",
                   interrupt_advice_);
      }
    }
  }
}

// With mutex_ held.
void FailureChannel::send(int peer, int tag) {
  sends_.push_back(MPI_REQUEST_NULL);
  DOVETAIL_MPI(MPI_Isend(&sent_code_, 1, MPI_INT, peer, tag, comm_, &sends_.back()));
}

// One round after the flush: tells failed peers that we have flushed. True when this rank has
// failed itself and all others have flushed.
bool FailureChannel::exchange_acknowledgements() {
  const std::lock_guard lock(mutex_);
  take_messages();
  for (const int peer : failed_peers_) {
    send(peer, kAcknowledgeTag);
  }
  failed_peers_.clear();
  return told_ && std::all_of(acknowledged_.begin(), acknowledged_.end(), [](bool a) { return a; });
}

}  // namespace dovetail
