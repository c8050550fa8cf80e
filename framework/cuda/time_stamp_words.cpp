#include "framework/cuda/time_stamp_words.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {

// Delegates, so that the words go again where the rest fails.
TimeStampWords::TimeStampWords(std::size_t count, cudaStream_t stream) : TimeStampWords() {
  if (count == 0) {
    return;
  }
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&words_), count * sizeof(std::uint64_t)),
             "allocate the words of time stamps");
  count_ = count;
  clear(stream);
}

TimeStampWords::~TimeStampWords() {
  if (words_ != nullptr) {
    static_cast<void>(cudaFree(words_));
  }
}

std::uint64_t* TimeStampWords::word(std::size_t index) const {
  DOVETAIL_CHECK(index < count_, "no word " + std::to_string(index));
  return words_ + index;
}

void TimeStampWords::clear(cudaStream_t stream) const {
  if (count_ > 0) {
    check_cuda(cudaMemsetAsync(words_, 0, count_ * sizeof(std::uint64_t), stream),
               "clear the words of time stamps");
  }
}

void TimeStampWords::clear_for_all(cudaStream_t stream) const {
  clear(stream);
  check_cuda(cudaStreamSynchronize(stream), "wait for the words of time stamps");
}

std::vector<std::uint64_t> TimeStampWords::read(cudaStream_t stream) const {
  std::vector<std::uint64_t> values(count_, 0);
  if (count_ > 0) {
    check_cuda(
        cudaMemcpyAsync(
            values.data(), words_, count_ * sizeof(std::uint64_t), cudaMemcpyDeviceToHost, stream),
        "read time stamps");
    check_cuda(cudaStreamSynchronize(stream), "wait for time stamps");
  }
  return values;
}

}  // namespace dovetail
