#include "framework/exec/baton.hpp"

#include <algorithm>
#include <string>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

/// Looks between two at the clock: some microseconds.
constexpr int kSpinsPerLook = 64;
/// Most spins that are left out in a row.
constexpr int kMaxSkip = 255;

std::string timeout_message(const Schedule& schedule,
                            int index,
                            int position,
                            std::chrono::milliseconds timeout) {
  const auto name = [&schedule](int i) {
    return describe_op(i, schedule.ops[static_cast<std::size_t>(i)]);
  };
  std::string text =
      "no progress for " + std::to_string(timeout.count()) + " ms while waiting for " + name(index);
  if (position >= 0 && position < static_cast<int>(schedule.ops.size())) {
    text += "; the baton is held for " + name(position);
  }
  return text;
}

}  // namespace

Baton::Baton(std::chrono::milliseconds timeout, std::chrono::nanoseconds next_spin)
    : timeout_(timeout), next_spin_(next_spin) {}

void Baton::start(const Schedule& schedule) {
  schedule_ = &schedule;
  num_ops_ = static_cast<int>(schedule.ops.size());
  position_.store(0, std::memory_order_seq_cst);
}

void Baton::spin(Slot& slot, int index) const {
  const auto end = std::chrono::steady_clock::now() + next_spin_;
  do {
    for (int i = 0; i < kSpinsPerLook; ++i) {
      if (position() != index - 1) {
        slot.last_skip = 0;
        return;
      }
      relax_cpu();
    }
  } while (std::chrono::steady_clock::now() < end);
  slot.last_skip = std::min(2 * slot.last_skip + 1, kMaxSkip);
  slot.spins_to_skip = slot.last_skip;
}

bool Baton::acquire(int index) {
  int seen = position();
  if (seen == index) {
    return true;
  }
  Slot& self = slot(owner(index));
  bool may_spin = next_spin_.count() > 0 && self.spins_to_skip == 0;
  self.spins_to_skip = std::max(self.spins_to_skip - 1, 0);
  const auto mine = [this, index] {
    const int now = position();
    return now == index || now == kPoisoned;
  };
  const auto mine_or_next = [this, index, &mine, &may_spin] {
    return mine() || (may_spin && position() == index - 1);
  };
  auto deadline = std::chrono::steady_clock::now() + timeout_;
  while (!mine()) {
    if (may_spin && position() == index - 1) {
      may_spin = false;
      spin(self, index);
      continue;
    }
    self.wants_early_wake.store(may_spin, std::memory_order_relaxed);
    if (!self.parker.wait(mine_or_next, 0, deadline)) {
      const int now = position();
      if (now == seen) {
        throw TimeoutError(timeout_message(*schedule_, index, now, timeout_));
      }
      seen = now;
      deadline = std::chrono::steady_clock::now() + timeout_;
    }
  }
  return position() == index;
}

void Baton::pass(int index) noexcept {
  const int next = index + 1;
  // Read before the store: afterwards the step may end and the schedule go away.
  const int next_owner = next < num_ops_ ? owner(next) : -1;
  const int second_owner = next + 1 < num_ops_ ? owner(next + 1) : next_owner;
  const int self = owner(index);
  int expected = index;
  if (!position_.compare_exchange_strong(expected, next, std::memory_order_seq_cst)) {
    return;
  }
  if (next_owner >= 0 && next_owner != self) {
    slot(next_owner).parker.wake();
  }
  if (second_owner >= 0 && second_owner != next_owner && second_owner != self &&
      slot(second_owner).wants_early_wake.load(std::memory_order_relaxed)) {
    slot(second_owner).parker.wake();
  }
}

void Baton::poison() noexcept {
  position_.store(kPoisoned, std::memory_order_seq_cst);
  for (auto& slot : slots_) {
    slot.parker.wake();
  }
}

}  // namespace dovetail
