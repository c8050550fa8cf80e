#include "framework/comm/nccl/abort_word.hpp"

#include <chrono>
#include <thread>

#include <cuda_runtime_api.h>

#include "framework/base/log.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {

AbortWord::~AbortWord() {
  auto* word = word_.load();
  if (word != nullptr && *word == 0 && cudaFreeHost(word) != cudaSuccess) {
    log_line("freeing an abort word failed");
  }
}

const std::uint32_t* AbortWord::get() {
  if (word_ == nullptr) {
    void* made = nullptr;
    check_cuda(cudaHostAlloc(&made, sizeof(std::uint32_t), cudaHostAllocMapped), "an abort word");
    auto* word = static_cast<std::uint32_t*>(made);
    *word = 0;
    word_ = word;
  }
  return word_;
}

bool AbortWord::raise() noexcept {
  auto* word = word_.load();
  if (word == nullptr) {
    return false;
  }
  if (std::atomic_ref(*word).exchange(1) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace dovetail
