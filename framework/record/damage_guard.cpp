#include "framework/record/damage_guard.hpp"

#include <array>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>
#include <unistd.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

/// What a crash looks like; SIGABRT is what the C library finds wrong in the heap.
constexpr std::array kCrashes = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr int kTimeIsUp = SIGVTALRM;

struct Guarded {
  volatile bool is_reading = false;
  std::array<char, 1024> what{};  ///< not in the heap, into which HDF5 may have written
  volatile pid_t thread = 0;
  std::array<struct sigaction, kCrashes.size()> others{};  ///< who handled crashes before
};

Guarded guarded;

void print(const char* text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

[[noreturn]] void end(const char* reason) {
  print("dovetail: ");
  print(guarded.what.data());
  print(": ");
  print(reason);
  print("; the file is damaged, or one that was read before it\n");
  _exit(kExitBadInput);
}

void on_crash(int signal, siginfo_t* info, void* /*context*/) {
  const bool was_sent = info->si_code <= 0 && info->si_pid != getpid();
  if (guarded.is_reading && !was_sent && guarded.thread == gettid()) {
    end("HDF5 crashed when it read this");
  }
  // Not ours: what crashes does so again, and then those see it who would have.
  for (std::size_t i = 0; i < kCrashes.size(); ++i) {
    if (kCrashes[i] == signal) {
      sigaction(signal, &guarded.others[i], nullptr);
    }
  }
}

void on_time_up(int /*signal*/) {
  if (guarded.is_reading) {
    end("HDF5 came to no end when it read this");
  }
}

/// For handlers of a thread whose stack is used up. Once in the process.
void lend_stack() {
  alignas(16) static std::array<std::byte, 64 << 10> memory;
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  stack_t before{};
  if (sigaltstack(nullptr, &before) == 0 && (before.ss_flags & SS_DISABLE) != 0) {
    sigaltstack(&stack, nullptr);
  }
}

void handle_crashes() {
  struct sigaction action {};

  action.sa_flags = SA_ONSTACK | SA_SIGINFO;
  action.sa_sigaction = on_crash;
  for (std::size_t i = 0; i < kCrashes.size(); ++i) {
    sigaction(kCrashes[i], &action, &guarded.others[i]);
  }
  action.sa_flags = SA_ONSTACK;
  action.sa_handler = on_time_up;
  sigaction(kTimeIsUp, &action, nullptr);
}

/// Handlers are there from the first guard on.
bool install() {
  lend_stack();
  handle_crashes();
  return true;
}

/// Sends kTimeIsUp after so much of the time of the thread that was the first to read;
/// 0 = not at all.
void set_time(int ms) {
  static const auto timer = []() -> std::optional<timer_t> {
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = kTimeIsUp;
    timer_t made{};
    return timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &made) == 0 ? std::optional(made)
                                                                     : std::nullopt;
  }();
  if (timer) {
    itimerspec time{};
    time.it_value.tv_sec = ms / 1000;
    time.it_value.tv_nsec = ms % 1000 * 1'000'000L;
    timer_settime(*timer, 0, &time, nullptr);
  }
}

}  // namespace

DamageGuard::DamageGuard(const std::string& what) noexcept : is_outer_(!guarded.is_reading) {
  if (is_outer_) {
    static const bool installed = install();
    static_cast<void>(installed);
    guarded.thread = gettid();
    guarded.what[what.copy(guarded.what.data(), guarded.what.size() - 1)] = '\0';
    guarded.is_reading = true;
    set_time(damage_guard_ms);
  }
}

DamageGuard::~DamageGuard() {
  if (is_outer_) {
    set_time(0);
    guarded.is_reading = false;
  }
}

}  // namespace dovetail
