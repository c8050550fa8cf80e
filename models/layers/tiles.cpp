#include "models/layers/tiles.hpp"

#include <cstdint>
#include <optional>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

namespace dovetail {
namespace {

bool is_aligned(const at::Tensor& x) {
  constexpr std::uintptr_t alignment = 64;  // of a new tensor on the CPU
  return x.is_contiguous() && reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % alignment == 0;
}

/// Scope in which libraries that this thread calls use no other thread.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }

  ~OneThread() { at::set_num_threads(before_); }

  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  OneThread(OneThread&&) = delete;
  OneThread& operator=(OneThread&&) = delete;

 private:
  const int before_;
};

}  // namespace

void for_each_tile(std::int64_t count, const std::function<void(std::int64_t)>& compute) {
  at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    const c10::InferenceMode inference;  // a worker does not inherit the caller's
    // Libraries stay in one thread inside a parallel region; one call, or one thread, opens none.
    std::optional<OneThread> one_thread;
    if (!at::in_parallel_region()) {
      one_thread.emplace();
    }
    for (std::int64_t i = begin; i < end; ++i) {
      compute(i);
    }
  });
}

at::Tensor aligned(const at::Tensor& x) {
  return is_aligned(x) ? x : x.clone(at::MemoryFormat::Contiguous);
}

}  // namespace dovetail
