// The thread of the failure channel: it hears of failures while all other threads are busy, says
// where this rank stands, and prints the report.
#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "framework/base/log.hpp"
#include "framework/exec/failure_report.hpp"
#include "framework/mpi/abort.hpp"
#include "framework/mpi/failure.hpp"
#include "framework/mpi/failure_tags.hpp"

namespace dovetail {
namespace {

constexpr std::chrono::milliseconds kLook{50};      // for failures
constexpr std::chrono::milliseconds kLookAtEnd{5};  // for answers
constexpr std::chrono::milliseconds kWaitForStates{1000};
constexpr std::chrono::milliseconds kWaitForFailedRanks{1500};
// Of a rank that has failed, for the report of rank 0.
constexpr std::chrono::milliseconds kWaitForReport{1800};
// Of a process that should have ended itself: its flush is stuck.
constexpr std::chrono::milliseconds kWaitForEnd{4500};
// Of one in which nothing goes on: its peers may flush meanwhile.
constexpr std::chrono::milliseconds kWaitForStillEnd{2500};
constexpr std::chrono::milliseconds kWaitForFile{400};
// Behind a signal, such as mpirun sends where a peer is gone: this process has 0.4 s.
constexpr std::chrono::milliseconds kWaitForStatesOfLiving{150};
constexpr std::chrono::milliseconds kWaitForFileOfLiving{100};

constexpr std::size_t kMaxPrintedRanks = 16;

/// Bounded: a file system that is lost may keep a write for ever. False where it was not written.
bool write_bounded(const std::filesystem::path& path,
                   std::string text,
                   std::chrono::milliseconds limit) {
  auto written = std::make_shared<std::promise<bool>>();
  auto done = written->get_future();
  std::thread([path, text = std::move(text), written] {
    std::ofstream file(path);
    file << text;
    file.close();
    written->set_value(file.good());
  }).detach();
  return done.wait_for(limit) == std::future_status::ready && done.get();
}

}  // namespace

void FailureChannel::watch() noexcept {
  try {
    std::unique_lock lock(mutex_);
    while (!done_) {
      const bool failed = failed_rank_.load() >= 0;
      wake_watch_.wait_for(lock, failed ? kLookAtEnd : kLook);
      if (done_) {
        return;
      }
      take_messages();
      settle_interrupt();
      report_standstill(lock);
      if (failed_rank_.load() < 0) {
        continue;
      }
      if (wants_report_) {
        answer(lock);
        if (must_print(Clock::now())) {
          print_report(lock);
        }
      }
      if (Clock::now() > failed_at_ + (stands_still_ ? kWaitForStillEnd : kWaitForEnd)) {
        abort_world(exit_code_);
      }
    }
  } catch (const std::exception& error) {
    log_line(std::string("the report of a failure: ") + error.what());  // end() prints the message
  }
}

// Where nobody's wait expires: all threads of all ranks may be in calls to a file system that does
// not answer. This thread touches none before it has spoken. With mutex_ held, but for the report.
void FailureChannel::report_standstill(std::unique_lock<std::mutex>& lock) {
  const auto still = standstill_.look(board_);
  if (still.count() == 0 || failed_rank_.load() >= 0) {
    return;
  }
  stands_still_ = true;
  lock.unlock();
  report_as(kFailureTag,
            kExitRunFailure,
            "no progress for " + std::to_string(still.count() / 1000) + " s",
            /*timed_out=*/true);
  lock.lock();
}

// To rank 0 at once, to each rank that has failed as soon as it is known. With mutex_ held, but for
// some 100 ms.
void FailureChannel::answer(std::unique_lock<std::mutex>& lock) {
  if (!answered_) {
    RankState measured = own_state_;
    lock.unlock();
    board_.measure_cpu_use(measured);
    lock.lock();
    own_state_.open_ops = measured.open_ops;
    answered_ = true;
    states_.resize(acknowledged_.size());
    states_.at(static_cast<std::size_t>(rank_)) = own_state_;
    if (const int reporter = lowest_rank_but(gone_); reporter != rank_) {
      send(reporter, kStateTag, &own_state_, sizeof own_state_);
    }
  }
  for (; num_answered_peers_ < told_by_.size(); ++num_answered_peers_) {
    const int peer = told_by_[num_answered_peers_];
    if (rank_ == 0 && report_printed_) {
      send(peer, kReportedTag, &sent_code_, sizeof sent_code_);
    } else if (rank_ != 0 && peer != 0) {
      send(peer, kStateTag, &own_state_, sizeof own_state_);
    }
  }
}

// With mutex_ held.
bool FailureChannel::must_print(Clock::time_point now) const {
  if (report_printed_ || !answered_) {
    return false;
  }
  const auto has_answered = [](const RankState& state) { return state.answered != 0; };
  if (!gone_.empty()) {
    const auto num_answered = std::count_if(states_.begin(), states_.end(), has_answered);
    return rank_ == lowest_rank_but(gone_) &&
           (now > failed_at_ + kWaitForStatesOfLiving ||
            num_answered == std::ssize(states_) - std::ssize(gone_));
  }
  if (rank_ == 0) {
    if (is_interrupted() && now > interrupted_at_ + kWaitForStatesOfLiving) {
      return true;
    }
    const bool knows_failures = std::all_of(told_by_.begin(), told_by_.end(), [&](int peer) {
      return has_answered(states_[static_cast<std::size_t>(peer)]);
    });
    return now > failed_at_ + (knows_failures ? kWaitForStates : kWaitForFailedRanks) ||
           std::all_of(states_.begin(), states_.end(), has_answered);
  }
  const auto lower_rank_prints = [](const RankState& state) {
    return state.answered != 0 && state.exit_code != 0;
  };
  return told_ && now > failed_at_ + kWaitForReport &&
         std::none_of(states_.begin(), states_.begin() + rank_, lower_rank_prints);
}

// With mutex_ held, but for the printing.
void FailureChannel::print_report(std::unique_lock<std::mutex>& lock) {
  auto states = states_;
  const auto folder = report_folder_;
  const auto gone = gone_;
  lock.unlock();
  for (std::size_t rank = 0; rank < states.size(); ++rank) {
    auto& state = states[rank];
    state.rank = static_cast<int>(rank);
    // A rank that says nothing may be gone also where no signal came: not every launcher sends one.
    const bool is_gone = std::find(gone.begin(), gone.end(), state.rank) != gone.end() ||
                         (state.answered == 0 && processes_.is_gone(state.rank));
    if (is_gone) {
      state.gone = 1;
      state.set_host(processes_.host(state.rank));
    }
  }
  const auto report = make_failure_report(states);
  auto text = to_text(report, kMaxPrintedRanks);
  if (!folder.empty()) {
    const auto path = folder / kFailureReportName;
    const auto limit = gone.empty() && !is_interrupted() ? kWaitForFile : kWaitForFileOfLiving;
    text += write_bounded(path, to_json_text(report, states), limit)
                ? "\n  report: " + path.string()
                : "\n  " + path.string() + " could not be written";
  }
  print_once(text);
  lock.lock();
  report_printed_ = true;
  // All of them: a launcher lets a stopped rank go on before it ends it, and that one would print a
  // report of its own over this.
  for (int peer = 0; peer < static_cast<int>(states_.size()); ++peer) {
    if (peer != rank_) {
      send(peer, kReportedTag, &sent_code_, sizeof sent_code_);
    }
  }
  num_answered_peers_ = told_by_.size();
}

}  // namespace dovetail
