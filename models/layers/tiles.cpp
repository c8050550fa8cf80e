#include "models/layers/tiles.hpp"

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"

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

/// The rows of x [R, ...] and behind them rows of zeros up to a multiple of kRowBlock: contiguous
/// and aligned as a new tensor is, which is what a kernel's choice may depend on. x itself where it
/// is that already.
at::Tensor in_whole_blocks(const at::Tensor& x) {
  const std::int64_t rows = x.size(0);
  if (rows % kRowBlock == 0 && is_aligned(x)) {
    return x;
  }
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.front() = num_blocks(rows, kRowBlock) * kRowBlock;
  at::Tensor padded = at::zeros(sizes, x.options());
  padded.narrow(0, 0, rows).copy_(x);
  return padded;
}

}  // namespace

void for_each_tile(at::Device device,
                   std::int64_t count,
                   const std::function<void(std::int64_t)>& compute) {
  if constexpr (gpu::kIsBuilt) {
    if (device.is_cuda()) {
      gpu::on_all_sms([&] {
        for (std::int64_t i = 0; i < count; ++i) {
          compute(i);
        }
      });
      return;
    }
  }
  DOVETAIL_CHECK(device.is_cpu(), "tiles of another device");
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

at::Tensor by_row_blocks(const at::Tensor& x,
                         const std::function<at::Tensor(const at::Tensor& block)>& compute) {
  const at::Tensor padded = in_whole_blocks(x);
  std::vector<at::Tensor> blocks(static_cast<std::size_t>(padded.size(0) / kRowBlock));
  for_each_tile(x.device(), static_cast<std::int64_t>(blocks.size()), [&](std::int64_t i) {
    blocks[static_cast<std::size_t>(i)] = compute(padded.narrow(0, i * kRowBlock, kRowBlock));
  });
  return at::cat(blocks).narrow(0, 0, x.size(0)).contiguous();
}

}  // namespace dovetail
