// Counts the memory of CPU tensors, for tests of what estimates of memory say.
#pragma once

#include <cstdint>

namespace dovetail::test {

/// Of this process, while one is there; tensors that are older are not counted. The peak is of all
/// threads.
class TensorMemory {
 public:
  TensorMemory();
  ~TensorMemory();
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;
  TensorMemory(TensorMemory&&) = delete;
  TensorMemory& operator=(TensorMemory&&) = delete;

  /// Bytes that tensors hold now.
  static std::int64_t bytes();

  /// The most since the last call.
  static std::int64_t take_peak();
};

}  // namespace dovetail::test
