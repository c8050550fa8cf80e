// How a failure on one rank ends all ranks: told to the peers, recorded by everyone, then one
// abort. On the control communicator, never blocking.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/ids.hpp"
#include "framework/exec/op_board.hpp"
#include "framework/exec/rank_state.hpp"
#include "framework/mpi/comm.hpp"

namespace dovetail {

/// Thrown by FailureChannel::poll: the job is ending because rank() has failed.
class PeerFailure : public RunError {
 public:
  PeerFailure(Rank rank, int job_exit_code);

  /// The rank that failed; this rank itself where another of its threads has reported.
  Rank rank() const { return rank_; }

  /// The exit code that the job will have (exit_code() is that of any failure while running).
  int job_exit_code() const { return job_exit_code_; }

 private:
  Rank rank_;
  int job_exit_code_;
};

/// One a process, over the control communicator, which must outlive it. Its use, in main:
///
///   try { ... waits call channel.poll() through WaitPolicy::on_poll ... }
///   catch (const Error& e) { channel.report(e.exit_code(), e.what()); flush; channel.end(); }
///
/// The same catch serves a PeerFailure: report() then says nothing. A thread of its own listens,
/// too, and answers for a rank whose other threads are busy or stuck: every rank sends where it
/// stands (OpBoard) to rank 0 and to the ranks that have failed. Rank 0 prints one report of all,
/// and keeps it as failure.json; a rank that has not answered within a second is named as such.
/// Where rank 0 does not, the lowest rank that has failed prints what it knows.
///
/// The failing rank gives its peers 2 s to flush and aborts all ranks; a peer that
/// has flushed and sees no abort within 3 s aborts itself. So all end within 5 s, also where a peer
/// is dead or busy, or stuck in its flush: the listening thread then aborts.
class FailureChannel {
 public:
  /// Sends nothing, starts the thread. Not collective.
  explicit FailureChannel(const MpiComm& control);
  ~FailureChannel();
  FailureChannel(const FailureChannel&) = delete;
  FailureChannel& operator=(const FailureChannel&) = delete;
  FailureChannel(FailureChannel&&) = delete;
  FailureChannel& operator=(FailureChannel&&) = delete;

  /// Where this rank's threads say what they do.
  OpBoard& board() { return board_; }

  /// Where failure.json goes; without it the report is only printed. Any thread.
  void set_report_folder(std::filesystem::path folder);

  /// This rank has failed: tells the peers, and the message is part of the report; from now on
  /// poll() throws here, too, which frees this rank's own waiting threads. Any thread, best in the
  /// handler of the exception, which tells a time-out from other failures; only the first call
  /// counts. Prints and tells nothing where the message is empty (all ranks know already, see
  /// all_ranks_ok), or where a poll here has thrown for a peer (the error comes from that).
  void report(int exit_code, std::string_view message) noexcept;

  /// report() of a signal, which most likely all ranks have got: only rank 0 prints, its own
  /// message or that a peer was interrupted. One line, however many ranks report.
  void report_interrupt(int exit_code, std::string_view message) noexcept;

  /// What rank 0 prints in the next line of an interrupt, such as how to go on; empty = nothing.
  /// Not while other threads use the channel. Not collective.
  void set_interrupt_advice(std::string advice) { interrupt_advice_ = std::move(advice); }

  /// Throws PeerFailure once a peer or this rank has failed. Any thread; about a microsecond.
  void poll();

  /// Ends the process, after the caller has flushed: tells the peers so, waits as said above,
  /// aborts. Main thread. mpirun returns the exit code that was reported, of several that of one.
  [[noreturn]] void end() noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  void report_as(int tag, int exit_code, std::string_view message, bool timed_out) noexcept;
  void print_once(std::string_view message, std::string_view advice = {}) noexcept;
  void note_failure(int rank, int exit_code);
  void take_messages();
  void take_state(MPI_Message& message);
  void send(int peer, int tag, const void* data, int bytes);
  bool exchange_acknowledgements();

  // failure_watch.cpp
  void watch() noexcept;
  void answer(std::unique_lock<std::mutex>& lock);
  bool must_print(Clock::time_point now) const;
  void print_report(std::unique_lock<std::mutex>& lock);

  MPI_Comm comm_;
  int rank_;
  std::string interrupt_advice_;
  OpBoard board_;

  std::mutex mutex_;                    // of MPI's matching here, and of all down to `sends_`
  std::vector<int> failed_peers_;       // not yet acknowledged
  std::vector<int> told_by_;            // peers that have failed, in the order of their messages
  std::vector<bool> acknowledged_;      // by rank: has flushed after our failure
  std::size_t num_answered_peers_ = 0;  // of told_by_
  bool told_ = false;                   // the peers know of our failure
  bool wants_report_ = false;           // there is a failure that is to be reported
  bool answered_ = false;               // own_state_ was sent and stays as it is
  bool done_ = false;                   // the channel goes
  Clock::time_point failed_at_;
  RankState own_state_;            // as of the failure
  std::vector<RankState> states_;  // by rank, once there is a failure
  std::filesystem::path report_folder_;
  std::vector<MPI_Request> sends_;  // some bytes each, never waited for: the process is ending

  std::condition_variable wake_watch_;
  std::atomic<bool> reported_{false};
  std::atomic<bool> printed_{false};
  std::atomic<bool> report_printed_{false};
  std::atomic<bool> thrown_for_peer_{false};
  std::atomic<int> exit_code_{kExitRunFailure};
  std::atomic<int> failed_rank_{-1};  // the first known here; set after exit_code_
  int sent_code_ = kExitRunFailure;   // what pending sends read; written once, before them
  std::thread watch_;                 // last: it uses the fields above
};

}  // namespace dovetail
