#include "framework/cuda/op_gate.hpp"

#include <utility>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/global_timer.cuh"

namespace dovetail {
namespace {

enum GateState : std::uint32_t { closed = 0, open = 1, given_up = 2 };

/// One thread. Waits until the host has opened the gate, or for the bound.
__global__ void op_gate_kernel(volatile std::uint32_t* opened,
                               volatile std::uint32_t* seen,
                               std::uint64_t bound_ns) {
  const std::uint64_t deadline = global_timer_ns() + bound_ns;
  while (*opened == closed) {
    if (global_timer_ns() > deadline) {
      *seen = given_up;
      return;
    }
  }
  *seen = open;
}

}  // namespace

/// Of one op.
struct OpGate::Words {
  std::uint32_t opened = closed;  ///< written by the host
  std::uint32_t seen = closed;    ///< written by the device
};

OpGate::OpGate(std::chrono::microseconds bound) : bound_(bound) {}

OpGate::~OpGate() {
  free_words();
}

OpGate::OpGate(OpGate&& other) noexcept
    : bound_(other.bound_),
      words_(std::exchange(other.words_, nullptr)),
      num_ops_(std::exchange(other.num_ops_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

OpGate& OpGate::operator=(OpGate&& other) noexcept {
  std::swap(bound_, other.bound_);
  std::swap(words_, other.words_);
  std::swap(num_ops_, other.num_ops_);
  std::swap(capacity_, other.capacity_);
  return *this;
}

void OpGate::free_words() noexcept {
  if (words_ != nullptr) {
    static_cast<void>(cudaFreeHost(words_));
    words_ = nullptr;
  }
}

void OpGate::begin_step(int num_ops) {
  if (num_ops > capacity_) {
    free_words();
    capacity_ = 0;
    check_cuda(cudaHostAlloc(reinterpret_cast<void**>(&words_),
                             static_cast<std::size_t>(num_ops) * sizeof(Words),
                             cudaHostAllocMapped),
               "allocate the words of op gates");
    capacity_ = num_ops;
  }
  num_ops_ = num_ops;
  for (int i = 0; i < num_ops; ++i) {
    words_[i] = {};
  }
}

void OpGate::hold(int index, cudaStream_t stream) {
  DOVETAIL_CHECK(index >= 0 && index < num_ops_, "an op that the step does not have");
  Words* on_device = nullptr;
  check_cuda(cudaHostGetDevicePointer(reinterpret_cast<void**>(&on_device), words_, 0),
             "the device's address of op gates");
  op_gate_kernel<<<1, 1, 0, stream>>>(
      &on_device[index].opened, &on_device[index].seen, static_cast<std::uint64_t>(bound_.count()));
  check_cuda(cudaGetLastError(), "launch of op_gate");
}

void OpGate::release(int index) {
  DOVETAIL_CHECK(index >= 0 && index < num_ops_, "an op that the step does not have");
  __atomic_store_n(&words_[index].opened, std::uint32_t{open}, __ATOMIC_RELEASE);
}

bool OpGate::has_held(int index) const {
  DOVETAIL_CHECK(index >= 0 && index < num_ops_, "an op that the step does not have");
  return __atomic_load_n(&words_[index].seen, __ATOMIC_ACQUIRE) == open;
}

}  // namespace dovetail
