// What the failure channel does where a signal came: mpirun sends one where a peer is gone, too,
// and that is what has to be said then.
#include <algorithm>
#include <chrono>
#include <string>

#include "framework/mpi/failure.hpp"
#include "framework/mpi/failure_tags.hpp"

namespace dovetail {
namespace {

/// For ranks of other hosts to say that they are there: the process ends 0.4 s after the signal.
constexpr std::chrono::milliseconds kWaitForHosts{200};

bool contains(const std::vector<int>& ranks, int rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

}  // namespace

bool FailureChannel::is_interrupted() const {
  return has_run_ && signals_ != nullptr && signals_->interrupt_requested();
}

// With mutex_ held.
void FailureChannel::note_interrupt(int rank) {
  if (interrupted_rank_ < 0) {
    interrupted_rank_ = rank;
    interrupted_at_ = Clock::now();
  }
}

// Finds out what a signal was for, and says it. Nothing where none is known of. Where the run ends
// for another reason already, a rank that has a signal only looks for peers that are gone, which
// may be behind that reason. With mutex_ held.
void FailureChannel::settle_interrupt() {
  const bool has_signal = is_interrupted();
  if (has_signal) {
    note_interrupt(rank_);
  }
  for (const int peer : asked_by_) {
    send(peer, kHereTag, &sent_code_, sizeof sent_code_);
  }
  asked_by_.clear();
  const bool is_over = is_settled_ || report_printed_ || !gone_.empty();
  if (interrupted_rank_ < 0 || is_over || (wants_report_ && !has_signal)) {
    return;
  }
  const auto ended = find_ended();
  // Behind the look at the processes: what those that have ended had to say is here by now.
  take_messages();
  if (wants_report_ && !has_signal) {
    return;
  }
  std::vector<int> silent;
  for (int rank = 0; rank < static_cast<int>(heard_.size()); ++rank) {
    if (heard_[static_cast<std::size_t>(rank)]) {
      continue;
    }
    if (contains(ended, rank)) {
      note_gone(rank);
    } else if (!processes_.is_here(rank)) {
      silent.push_back(rank);
    }
  }
  if (!gone_.empty()) {
    tell_gone();
    return;
  }
  if (wants_report_) {
    return;
  }
  if (has_signal || interrupted_rank_ == rank_) {
    note_failure(rank_, kExitRunFailure);
    tell_all(kInterruptTag, kExitRunFailure);
  }
  is_settled_ = silent.empty() || Clock::now() > interrupted_at_ + kWaitForHosts;
  if (is_settled_ && rank_ == lowest_rank_but(silent)) {
    print_once(describe_interrupt(silent), interrupt_advice_);
  }
}

/// Peers of this host whose processes are no more.
std::vector<int> FailureChannel::find_ended() const {
  std::vector<int> ended;
  for (int rank = 0; rank < static_cast<int>(heard_.size()); ++rank) {
    if (rank != rank_ && processes_.is_gone(rank)) {
      ended.push_back(rank);
    }
  }
  return ended;
}

// `silent`: ranks of other hosts that say nothing. With mutex_ held.
std::string FailureChannel::describe_interrupt(const std::vector<int>& silent) const {
  std::string text = signals_ != nullptr ? signals_->describe_interrupt() : "";
  if (text.empty() && interrupted_rank_ == rank_) {
    text = own_state_.message.data();
  }
  if (text.empty()) {
    text = "rank " + std::to_string(interrupted_rank_) + " was interrupted by a signal";
  }
  if (!silent.empty()) {
    text += "; rank " + std::to_string(silent.front()) + " on host " +
            processes_.host(silent.front()) +
            " does not answer: where nobody has asked for the end, it was killed, or its host is "
            "lost";
  }
  return text;
}

// The run ends because that rank is not there any more. With mutex_ held.
void FailureChannel::note_gone(int rank) {
  if (contains(gone_, rank)) {
    return;
  }
  gone_.push_back(rank);
  acknowledged_[static_cast<std::size_t>(rank)] = true;
  wants_report_ = true;
  note_failure(rank, kExitRunFailure);
}

// With mutex_ held.
void FailureChannel::tell_gone() {
  told_ = true;
  sent_gone_ = gone_.front();
  for (int peer = 0; peer < static_cast<int>(heard_.size()); ++peer) {
    if (peer != rank_ && !contains(gone_, peer)) {
      send(peer, kGoneTag, &sent_gone_, sizeof sent_gone_);
    }
  }
}

int FailureChannel::lowest_rank_but(const std::vector<int>& ranks) {
  int rank = 0;
  while (contains(ranks, rank)) {
    ++rank;
  }
  return rank;
}

}  // namespace dovetail
