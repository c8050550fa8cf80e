#include "tests/support/tensor_memory.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <new>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

namespace dovetail::test {
namespace {

constexpr std::align_val_t kAlign{64};
constexpr std::size_t kHead = 64;  ///< ahead of the data: its size

std::atomic<std::int64_t> now_bytes{0};
std::atomic<std::int64_t> peak_bytes{0};

void note(std::int64_t change) {
  const auto now = now_bytes.fetch_add(change) + change;
  auto peak = peak_bytes.load();
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
  }
}

void release(void* head) {
  note(-*static_cast<std::int64_t*>(head));
  ::operator delete(head, kAlign);
}

/// Stays until the process ends: tensors outlive what asked for it.
class Counting final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    auto* head = static_cast<std::byte*>(::operator new(kHead + size, kAlign));
    *reinterpret_cast<std::int64_t*>(head) = static_cast<std::int64_t>(size);
    note(static_cast<std::int64_t>(size));
    return {head + kHead, head, &release, c10::Device(c10::DeviceType::CPU)};
  }

  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
};

}  // namespace

TensorMemory::TensorMemory() {
  static Counting counting;
  now_bytes = 0;
  peak_bytes = 0;
  c10::SetCPUAllocator(&counting, /*priority=*/100);
}

TensorMemory::~TensorMemory() {
  c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), /*priority=*/100);
}

std::int64_t TensorMemory::bytes() {
  return now_bytes;
}

std::int64_t TensorMemory::take_peak() {
  return peak_bytes.exchange(now_bytes);
}

}  // namespace dovetail::test
