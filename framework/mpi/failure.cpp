#include "framework/mpi/failure.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "framework/base/log.hpp"
#include "framework/mpi/abort.hpp"
#include "framework/mpi/check.hpp"
#include "framework/mpi/failure_tags.hpp"

namespace dovetail {
namespace {

constexpr std::chrono::seconds kWaitForAcknowledgements{2};
constexpr std::chrono::seconds kWaitForAbort{3};
// Of a standstill: waits say more about it, and expire first.
constexpr std::chrono::milliseconds kBehindWaits{1000};

/// Whether the exception, or one that it was made from, says that a wait was in vain.
bool is_timeout(const std::exception& error) {
  if (dynamic_cast<const TimeoutError*>(&error) != nullptr) {
    return true;
  }
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& nested) {
    return is_timeout(nested);
  } catch (...) {  // no std::exception: no time-out of ours
  }
  return false;
}

bool is_handling_timeout() {
  try {
    if (const auto current = std::current_exception()) {
      std::rethrow_exception(current);
    }
  } catch (const std::exception& error) {
    return is_timeout(error);
  } catch (...) {  // likewise
  }
  return false;
}

}  // namespace

PeerFailure::PeerFailure(Rank rank, int job_exit_code)
    : RunError("rank " + std::to_string(rank.value) + " has failed; this rank ends with it"),
      rank_(rank),
      job_exit_code_(job_exit_code) {}

FailureChannel::FailureChannel(const MpiComm& control, const SignalWatch* signals)
    : comm_(control.raw()),
      rank_(control.rank()),
      signals_(signals),
      processes_(control),
      acknowledged_(static_cast<std::size_t>(control.size()), false),
      heard_(acknowledged_) {
  acknowledged_[static_cast<std::size_t>(rank_)] = true;
  heard_[static_cast<std::size_t>(rank_)] = true;
  watch_ = std::thread([this] { watch(); });
}

FailureChannel::~FailureChannel() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  wake_watch_.notify_all();
  watch_.join();
}

void FailureChannel::set_report_folder(std::filesystem::path folder) {
  const std::lock_guard lock(mutex_);
  report_folder_ = std::move(folder);
}

void FailureChannel::set_run(std::optional<std::chrono::milliseconds> timeout) {
  has_run_ = timeout.has_value();
  standstill_.set_limit(timeout ? std::optional(*timeout + kBehindWaits) : std::nullopt);
}

void FailureChannel::report(int exit_code, std::string_view message) noexcept {
  report_as(kFailureTag, exit_code, message, is_handling_timeout());
}

void FailureChannel::report_interrupt(int exit_code, std::string_view message) noexcept {
  report_as(kInterruptTag, exit_code, message, false);
}

void FailureChannel::report_as(int tag,
                               int exit_code,
                               std::string_view message,
                               bool timed_out) noexcept {
  if (reported_.exchange(true)) {
    return;
  }
  const bool own = !message.empty() && !thrown_for_peer_;
  try {
    const std::lock_guard lock(mutex_);
    note_failure(rank_, exit_code);
    if (own) {
      if (!answered_) {
        own_state_.exit_code = exit_code;
        own_state_.timed_out = timed_out ? 1 : 0;
        own_state_.set_message(message);
      }
      wants_report_ = wants_report_ || tag == kFailureTag;
      if (tag == kInterruptTag) {
        note_interrupt(rank_);
        settle_interrupt();
      } else {
        tell_all(tag, exit_code);
      }
    }
  } catch (const std::exception& error) {
    log_line(error.what());  // the abort in end() tells the peers
  }
  wake_watch_.notify_all();
}

// This rank has failed: says so to the peers, once; a failure also behind an interrupt. With mutex_
// held.
void FailureChannel::tell_all(int tag, int exit_code) {
  const bool is_failure = tag == kFailureTag;
  if (told_ && (!is_failure || told_failure_)) {
    return;
  }
  if (!told_) {
    sent_code_ = exit_code;
  }
  told_ = true;
  told_failure_ = is_failure;
  for (int peer = 0; peer < static_cast<int>(acknowledged_.size()); ++peer) {
    if (peer != rank_) {
      send(peer, tag, &sent_code_, sizeof sent_code_);
    }
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
  OpBoard::note_wait();
  standstill_.note_wait();
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
  bool must_report = false;
  std::string own_message;
  try {
    auto deadline = Clock::now() + kWaitForAbort;
    {
      const std::lock_guard lock(mutex_);
      if (told_) {
        deadline = Clock::now() + kWaitForAcknowledgements;
      }
    }
    while (!may_end() && Clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const std::lock_guard lock(mutex_);
    must_report = told_ && wants_report_;
    own_message = own_state_.message.data();
  } catch (const std::exception& error) {
    log_line(error.what());
  }
  if (must_report && !report_printed_) {
    print_once(own_message);
  }
  abort_world(exit_code_);
}

// Whether the others have flushed, and all is said.
bool FailureChannel::may_end() {
  const std::lock_guard lock(mutex_);
  settle_interrupt();
  const bool is_said =
      wants_report_ ? !told_ || report_printed_ : interrupted_rank_ < 0 || is_settled_;
  return exchange_acknowledgements() && is_said;
}

// The first failure that this rank knows of is the one that it ends for, and where it stands then
// is what it tells of itself. With mutex_ held.
void FailureChannel::note_failure(int rank, int exit_code) {
  if (failed_rank_.load() < 0) {
    own_state_ = board_.look();
    own_state_.rank = rank_;
    failed_at_ = Clock::now();
    exit_code_ = exit_code;
    failed_rank_ = rank;
  }
}

// With mutex_ held.
void FailureChannel::take_messages() {
  for (const int tag :
       {kFailureTag, kInterruptTag, kGoneTag, kAcknowledgeTag, kStateTag, kReportedTag, kHereTag}) {
    for (;;) {
      int found = 0;
      MPI_Message message = MPI_MESSAGE_NULL;
      MPI_Status status;
      DOVETAIL_MPI(MPI_Improbe(MPI_ANY_SOURCE, tag, comm_, &found, &message, &status));
      if (found == 0) {
        break;
      }
      heard_[static_cast<std::size_t>(status.MPI_SOURCE)] = true;
      if (tag == kStateTag) {
        take_state(message);
        continue;
      }
      int number = 0;
      DOVETAIL_MPI(MPI_Mrecv(&number, sizeof number, MPI_BYTE, &message, MPI_STATUS_IGNORE));
      take_message(tag, status.MPI_SOURCE, number);
    }
  }
}

// With mutex_ held.
void FailureChannel::take_message(int tag, int source, int number) {
  switch (tag) {
    case kAcknowledgeTag:
      acknowledged_[static_cast<std::size_t>(source)] = true;
      return;
    case kReportedTag:
      report_printed_ = true;
      return;
    case kHereTag:
      return;
    case kGoneTag:
      failed_peers_.push_back(source);
      note_gone(number);
      return;
    case kInterruptTag:
      asked_by_.push_back(source);
      note_interrupt(source);
      break;
    default:
      wants_report_ = true;
      break;
  }
  failed_peers_.push_back(source);
  told_by_.push_back(source);
  note_failure(source, number);
}

// With mutex_ held.
void FailureChannel::take_state(MPI_Message& message) {
  RankState state;
  DOVETAIL_MPI(MPI_Mrecv(&state, sizeof state, MPI_BYTE, &message, MPI_STATUS_IGNORE));
  states_.resize(acknowledged_.size());
  states_.at(static_cast<std::size_t>(state.rank)) = state;
}

// With mutex_ held. What `data` points to stays until the process ends.
void FailureChannel::send(int peer, int tag, const void* data, int bytes) {
  sends_.push_back(MPI_REQUEST_NULL);
  DOVETAIL_MPI(MPI_Isend(data, bytes, MPI_BYTE, peer, tag, comm_, &sends_.back()));
}

// One round after the flush: tells failed peers that we have flushed. True when this rank has
// failed itself and all others have flushed. With mutex_ held.
bool FailureChannel::exchange_acknowledgements() {
  take_messages();
  for (const int peer : failed_peers_) {
    send(peer, kAcknowledgeTag, &sent_code_, sizeof sent_code_);
  }
  failed_peers_.clear();
  return told_ && std::all_of(acknowledged_.begin(), acknowledged_.end(), [](bool a) { return a; });
}

}  // namespace dovetail
