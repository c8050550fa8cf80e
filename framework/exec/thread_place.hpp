// Where the threads of a step run: on the core of the thread that started it.
#pragma once

#include <thread>

namespace dovetail {

/// Keeps threads together on one core. One thread at a time may call.
class ThreadPlace {
 public:
  /// Moves all workers' threads (members `thread`) to the core on which the caller is; does nothing
  /// where they are there. Where the system refuses, they stay where they are: slower, nothing
  /// else.
  template <class Workers>
  void follow_caller(Workers& workers) {
    if (!is_new_place()) {
      return;
    }
    for (auto& worker : workers) {
      move(worker.thread);
    }
  }

  /// There are further threads, which have not been moved.
  void forget() { cpu_ = -1; }

 private:
  bool is_new_place();
  void move(std::thread& thread) const;

  int cpu_ = -1;  ///< that all threads were moved to; -1 = not all of them
};

}  // namespace dovetail
