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
constexpr std::chrono::milliseconds kWaitForFile{400};

constexpr std::size_t kMaxPrintedRanks = 16;

/// Bounded: a file system that is lost may keep a write for ever. False where it was not written.
bool write_bounded(const std::filesystem::path& path, std::string text) {
  auto written = std::make_shared<std::promise<bool>>();
  auto done = written->get_future();
  std::thread([path, text = std::move(text), written] {
    std::ofstream file(path);
    file << text;
    file.close();
    written->set_value(file.good());
  }).detach();
  return done.wait_for(kWaitForFile) == std::future_status::ready && done.get();
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
      if (failed_rank_.load() < 0) {
        continue;
      }
      if (wants_report_) {
        answer(lock);
        if (must_print(Clock::now())) {
          print_report(lock);
        }
      }
      if (Clock::now() > failed_at_ + kWaitForEnd) {
        abort_world(exit_code_);
      }
    }
  } catch (const std::exception& error) {
    log_line(std::string("the report of a failure: ") + error.what());  // end() prints the message
  }
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
    if (rank_ != 0) {
      send(0, kStateTag, &own_state_, sizeof own_state_);
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
  if (rank_ == 0) {
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
  lock.unlock();
  for (std::size_t rank = 0; rank < states.size(); ++rank) {
    states[rank].rank = static_cast<int>(rank);
  }
  const auto report = make_failure_report(states);
  auto text = to_text(report, kMaxPrintedRanks);
  if (!folder.empty()) {
    const auto path = folder / kFailureReportName;
    text += write_bounded(path, to_json_text(report, states))
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
