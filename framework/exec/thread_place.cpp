#include "framework/exec/thread_place.hpp"

#include <pthread.h>
#include <sched.h>

namespace dovetail {

bool ThreadPlace::is_new_place() {
  const int cpu = sched_getcpu();
  const bool is_new = cpu >= 0 && cpu != cpu_;
  cpu_ = cpu;
  return is_new;
}

void ThreadPlace::move(std::thread& thread) const {
  if (!thread.joinable()) {
    return;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu_), &one);
  pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
}

}  // namespace dovetail
