#include "models/weights/cuda/content_sums.hpp"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "models/weights/cuda/word_sum_kernel.hpp"

namespace dovetail {

std::vector<std::uint64_t> content_sums_on_gpu(const std::vector<std::uint64_t>& starts,
                                               const std::vector<at::Tensor>& contents) {
  DOVETAIL_CHECK_EQ(starts.size(), contents.size());
  if (contents.empty()) {
    return {};
  }
  const at::Device device = contents.front().device();
  const c10::cuda::CUDAGuard guard(device);
  const auto stream = c10::cuda::getCurrentCUDAStream(device.index());
  const at::Tensor sums = at::zeros({static_cast<std::int64_t>(contents.size())},
                                    at::TensorOptions().dtype(at::kLong).device(device));
  auto* sum = reinterpret_cast<unsigned long long*>(sums.mutable_data_ptr<std::int64_t>());
  for (std::size_t i = 0; i < contents.size(); ++i) {
    DOVETAIL_CHECK(contents[i].device() == device && contents[i].is_contiguous(),
                   "contents to hash must be contiguous on one GPU");
    launch_word_sum(contents[i].const_data_ptr(),
                    static_cast<std::int64_t>(contents[i].nbytes()),
                    starts[i],
                    sum + i,
                    stream);
  }
  const at::Tensor on_host = sums.cpu();
  const auto* const begin = on_host.const_data_ptr<std::int64_t>();
  return {begin, begin + on_host.numel()};
}

}  // namespace dovetail
