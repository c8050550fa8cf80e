// Owner of the words on the device that time stamps are written to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Move-only; empty until made, on the current device, not during a capture of the calling thread.
/// A word of 0 has not been written. Outlives what writes to it.
class TimeStampWords {
 public:
  TimeStampWords() = default;

  /// All 0 for work that `stream` is given from now on.
  TimeStampWords(std::size_t count, cudaStream_t stream);
  ~TimeStampWords();

  TimeStampWords(TimeStampWords&& other) noexcept
      : words_(std::exchange(other.words_, nullptr)), count_(std::exchange(other.count_, 0)) {}

  TimeStampWords& operator=(TimeStampWords&& other) noexcept {
    std::swap(words_, other.words_);
    std::swap(count_, other.count_);
    return *this;
  }

  TimeStampWords(const TimeStampWords&) = delete;
  TimeStampWords& operator=(const TimeStampWords&) = delete;

  std::size_t count() const { return count_; }

  /// On the device. ContractError where there is none of that index.
  std::uint64_t* word(std::size_t index) const;

  /// All 0 for work that `stream` is given from now on.
  void clear(cudaStream_t stream) const;

  /// All 0 for work of any stream: waits until `stream` is idle.
  void clear_for_all(cudaStream_t stream) const;

  /// [count] values, as the work that `stream` has been given leaves them, for whose end this
  /// waits: only for a stream that is idle, or will be at once.
  std::vector<std::uint64_t> read(cudaStream_t stream) const;

 private:
  std::uint64_t* words_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace dovetail
