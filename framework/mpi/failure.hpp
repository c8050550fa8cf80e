// How a failure on one rank ends all ranks: told to the peers, recorded by everyone, then one
// abort. On the control communicator, never blocking.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
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
#include "framework/mpi/peer_processes.hpp"
#include "framework/mpi/signals.hpp"
#include "framework/mpi/standstill.hpp"

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
/// mpirun ends all ranks by SIGTERM where one is gone (killed, crashed): a rank that is interrupted
/// looks for the processes of its host first, and hears from the ranks of other hosts. Of those
/// that are gone the lowest living rank prints the report. Where a signal comes amid the report of
/// a failure, this waits for no more answers, for the process has no second left.
///
/// Where nothing at all goes on in this process for a second longer than the bound of every wait
/// (no op, no wait, no use of a core, nothing read or written), the thread reports that and ends
/// the process: no wait expires where all ranks are in calls to a file system that does not answer.
///
/// The failing rank gives its peers 2 s to flush and aborts all ranks; a peer that
/// has flushed and sees no abort within 3 s aborts itself. So all end within 5 s, also where a peer
/// is dead or busy, or stuck in its flush: the listening thread then aborts.
class FailureChannel {
 public:
  /// Starts the thread, which looks at `signals` (null = none), too. Collective; blocks inside MPI:
  /// start-up only.
  explicit FailureChannel(const MpiComm& control, const SignalWatch* signals = nullptr);
  ~FailureChannel();
  FailureChannel(const FailureChannel&) = delete;
  FailureChannel& operator=(const FailureChannel&) = delete;
  FailureChannel(FailureChannel&&) = delete;
  FailureChannel& operator=(FailureChannel&&) = delete;

  /// Where this rank's threads say what they do.
  OpBoard& board() { return board_; }

  /// Where failure.json goes; without it the report is only printed. Any thread.
  void set_report_folder(std::filesystem::path folder);

  /// A run begins in which `timeout` is the bound of every wait: from now on signals and
  /// standstills are this channel's to report; nothing = it has ended. One channel at a time has a
  /// run. Any thread.
  void set_run(std::optional<std::chrono::milliseconds> timeout);

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
  /// Any thread. Not collective.
  void set_interrupt_advice(std::string advice) {
    const std::lock_guard lock(mutex_);
    interrupt_advice_ = std::move(advice);
  }

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
  void tell_all(int tag, int exit_code);
  void take_messages();
  void take_message(int tag, int source, int number);
  void take_state(MPI_Message& message);
  void send(int peer, int tag, const void* data, int bytes);
  bool exchange_acknowledgements();
  bool may_end();

  // failure_gone.cpp
  bool is_interrupted() const;
  void note_interrupt(int rank);
  void settle_interrupt();
  std::vector<int> find_ended() const;
  void tell_gone();
  void note_gone(int rank);
  static int lowest_rank_but(const std::vector<int>& ranks);
  std::string describe_interrupt(const std::vector<int>& silent) const;

  // failure_watch.cpp: of the thread
  void watch() noexcept;
  void answer(std::unique_lock<std::mutex>& lock);
  bool must_print(Clock::time_point now) const;
  void print_report(std::unique_lock<std::mutex>& lock);
  void report_standstill(std::unique_lock<std::mutex>& lock);

  MPI_Comm comm_;
  int rank_;
  const SignalWatch* signals_;
  const PeerProcesses processes_;
  std::string interrupt_advice_;
  OpBoard board_;
  Standstill standstill_;

  std::mutex mutex_;                    // of MPI's matching here, and of all down to `sends_`
  std::vector<int> failed_peers_;       // not yet acknowledged
  std::vector<int> told_by_;            // peers that have failed, in the order of their messages
  std::vector<bool> acknowledged_;      // by rank: has flushed after our failure
  std::size_t num_answered_peers_ = 0;  // of told_by_
  std::vector<bool> heard_;             // by rank: it has said something, as this rank has
  std::vector<int> asked_by_;           // peers that were interrupted, not yet answered
  std::vector<int> gone_;               // ranks whose processes have ended without a word
  int interrupted_rank_ = -1;           // the first that is known to have got a signal
  Clock::time_point interrupted_at_;
  bool is_settled_ = false;    // why there was a signal is known, and said
  bool told_ = false;          // the peers know of our failure
  bool told_failure_ = false;  // and that it is no interrupt
  bool wants_report_ = false;  // there is a failure that is to be reported
  bool answered_ = false;      // own_state_ was sent and stays as it is
  bool stands_still_ = false;  // the watch has reported it
  bool done_ = false;          // the channel goes
  Clock::time_point failed_at_;
  RankState own_state_;            // as of the failure
  std::vector<RankState> states_;  // by rank, once there is a failure
  std::filesystem::path report_folder_;
  std::vector<MPI_Request> sends_;  // some bytes each, never waited for: the process is ending

  std::condition_variable wake_watch_;
  std::atomic<bool> has_run_{false};
  std::atomic<bool> reported_{false};
  std::atomic<bool> printed_{false};
  std::atomic<bool> report_printed_{false};
  std::atomic<bool> thrown_for_peer_{false};
  std::atomic<int> exit_code_{kExitRunFailure};
  std::atomic<int> failed_rank_{-1};  // the first known here; set after exit_code_
  int sent_code_ = kExitRunFailure;   // what pending sends read; written once, before them
  int sent_gone_ = -1;                // likewise
  std::thread watch_;                 // last: it uses the fields above
};

}  // namespace dovetail
