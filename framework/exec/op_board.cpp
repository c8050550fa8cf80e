#include "framework/exec/op_board.hpp"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <pthread.h>
#include <thread>

#include "framework/base/clock.hpp"
#include "framework/base/file_work.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

/// A thread that said within this time that it waits, still does. Waits say so each millisecond;
/// where many ranks share a core they get to it more rarely.
constexpr std::int64_t kWaitIsRecent = kSecond;

constexpr std::chrono::milliseconds kCpuSample{100};

thread_local std::atomic<std::int64_t>* own_wait = nullptr;

/// The processor clock of the calling thread, which other threads may read.
int own_cpu_clock() {
  clockid_t clock = 0;
  thread_local const int own =
      pthread_getcpuclockid(pthread_self(), &clock) == 0 ? static_cast<int>(clock) : 0;
  return own;
}

/// -1 where the thread has ended.
std::int64_t cpu_ns(int clock) {
  timespec time{};
  return clock_gettime(static_cast<clockid_t>(clock), &time) == 0
             ? time.tv_sec * kSecond + time.tv_nsec
             : -1;
}

template <std::size_t kSize>
void copy_text(std::array<char, kSize>& to, std::string_view text) {
  const auto length = std::min(text.size(), kSize - 1);
  std::memcpy(to.data(), text.data(), length);
  to[length] = '\0';
}

}  // namespace

void RankState::set_message(std::string_view text) {
  copy_text(message, text);
}

void RankState::set_host(std::string_view text) {
  copy_text(host, text);
}

OpBoard::~OpBoard() {
  own_wait = nullptr;  // of the main thread; the others have ended
}

OpBoard::Slot& OpBoard::slot(const Op& op) {
  return slots_.at(static_cast<std::size_t>(op.lane)).at(static_cast<std::size_t>(op.ubatch));
}

void OpBoard::begin(const Op& op) {
  auto& own = slot(op);
  constexpr auto relaxed = std::memory_order_relaxed;
  own.layer.store(op.layer, relaxed);
  own.phase.store(static_cast<int>(op.phase), relaxed);
  own.group.store(op.group, relaxed);
  own.cpu_clock.store(own_cpu_clock(), relaxed);
  own.waited_ns.store(0, relaxed);
  own.begun_ns.store(now_ns(), std::memory_order_release);
  own_wait = &own.waited_ns;
}

void OpBoard::end(const Op& op) {
  slot(op).ended_ns.store(now_ns(), std::memory_order_release);
  own_wait = nullptr;
}

void OpBoard::set_activity(const char* activity, int iteration, int step) {
  activity_ = activity;
  iteration_ = iteration;
  step_ = step;
  main_.waited_ns = 0;
  main_.begun_ns = now_ns();
  own_wait = &main_.waited_ns;
}

void OpBoard::note_wait() {
  if (own_wait != nullptr) {
    own_wait->store(now_ns(), std::memory_order_relaxed);
  }
}

RankState OpBoard::look() const {
  RankState state;
  state.answered = 1;
  const auto now = now_ns();
  const auto is_waiting = [now](const Slot& slot) {
    return now - slot.waited_ns.load() < kWaitIsRecent;
  };
  for (std::size_t lane = 0; lane < slots_.size(); ++lane) {
    for (std::size_t ubatch = 0; ubatch < slots_[lane].size(); ++ubatch) {
      const auto& slot = slots_[lane][ubatch];
      const auto begun = slot.begun_ns.load();
      if (begun == 0 || slot.ended_ns.load() >= begun) {
        continue;
      }
      auto& open = state.open_ops.at(static_cast<std::size_t>(state.num_open_ops++));
      open = {.layer = slot.layer,
              .lane = static_cast<std::int8_t>(lane),
              .ubatch = static_cast<std::int8_t>(ubatch),
              .phase = static_cast<std::int8_t>(slot.phase),
              .waits = static_cast<std::int8_t>(is_waiting(slot) ? 1 : 0),
              .open_ns = now - begun,
              .group = slot.group};
    }
  }
  state.main_waits = is_waiting(main_) ? 1 : 0;
  state.main_ns = main_.begun_ns == 0 ? 0 : now - main_.begun_ns;
  state.iteration = iteration_;
  state.step = step_;
  copy_text(state.activity, activity_.load());
  if (const auto work = oldest_file_work()) {
    copy_text(state.file, work->file);
    state.file_ns = now - work->begun_ns;
  }
  return state;
}

std::int64_t OpBoard::last_activity_ns() const {
  std::int64_t last = std::max(main_.begun_ns.load(), main_.waited_ns.load());
  for (const auto& lane : slots_) {
    for (const auto& slot : lane) {
      last = std::max({last, slot.begun_ns.load(), slot.ended_ns.load(), slot.waited_ns.load()});
    }
  }
  return last;
}

void OpBoard::measure_cpu_use(RankState& state) const {
  const auto wanted = [](const OpenOp& op) { return op.waits == 0 && op.open_ns > kSecond; };
  std::array<std::int64_t, RankState::kMaxOpenOps> before{};
  const auto count = static_cast<std::size_t>(state.num_open_ops);
  const auto time_of = [this](const OpenOp& op) {
    const auto& slot =
        slots_.at(static_cast<std::size_t>(op.lane)).at(static_cast<std::size_t>(op.ubatch));
    return cpu_ns(slot.cpu_clock);
  };
  const auto start = now_ns();
  bool any = false;
  for (std::size_t i = 0; i < count; ++i) {
    any = any || wanted(state.open_ops[i]);
    before[i] = time_of(state.open_ops[i]);
  }
  if (!any) {
    return;
  }
  std::this_thread::sleep_for(kCpuSample);
  for (std::size_t i = 0; i < count; ++i) {
    auto& open = state.open_ops[i];
    const auto after = time_of(open);
    if (wanted(open) && before[i] >= 0 && after >= 0) {
      // Rounded up: a thread that got any time at all computes.
      const auto elapsed = now_ns() - start;
      open.cpu_percent =
          static_cast<std::int32_t>(((after - before[i]) * 100 + elapsed - 1) / elapsed);
    }
  }
}

}  // namespace dovetail
