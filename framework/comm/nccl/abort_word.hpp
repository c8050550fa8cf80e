// A word through which the host tells kernels that wait to give up.
#pragma once

#include <atomic>
#include <cstdint>

namespace dovetail {

/// Host memory that kernels can read: 0 until raise(). Immovable.
class AbortWord {
 public:
  AbortWord() = default;

  /// Frees it unless it was raised: a kernel may still look at it then.
  ~AbortWord();
  AbortWord(const AbortWord&) = delete;
  AbortWord& operator=(const AbortWord&) = delete;
  AbortWord(AbortWord&&) = delete;
  AbortWord& operator=(AbortWord&&) = delete;

  /// Made by the first call, by one thread at a time. Throws RunError.
  const std::uint32_t* get();

  /// Any thread. Returns when kernels that look every few microseconds have seen it; at once, and
  /// false, where nobody has asked for the word.
  bool raise() noexcept;

 private:
  std::atomic<std::uint32_t*> word_{nullptr};
};

}  // namespace dovetail
