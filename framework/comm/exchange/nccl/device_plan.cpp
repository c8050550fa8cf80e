#include "framework/comm/exchange/nccl/device_plan.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {

std::vector<std::int64_t> DevicePlan::tokens_per_expert() const {
  DOVETAIL_CHECK(complete(), "nothing has arrived yet: arrange comes first");
  const auto words = static_cast<std::size_t>(block.header_words());
  const auto ranks = static_cast<std::size_t>(shape.ep_size);
  std::vector<std::int32_t> headers(words * ranks);
  check_cuda(cudaDeviceSynchronize(), "waiting for a plan");
  check_cuda(cudaMemcpy2D(headers.data(),
                          words * sizeof(std::int32_t),
                          heads.const_data_ptr(),
                          static_cast<std::size_t>(heads.size(1)),
                          words * sizeof(std::int32_t),
                          ranks,
                          cudaMemcpyDeviceToHost),
             "copying a plan's headers");
  std::vector<std::int64_t> counts(static_cast<std::size_t>(shape.experts_per_rank()));
  const auto first =
      static_cast<std::size_t>(BlockLayout::kFirstCount + shape.ep_rank * shape.experts_per_rank());
  for (std::size_t source = 0; source < ranks; ++source) {
    for (std::size_t e = 0; e < counts.size(); ++e) {
      counts[e] += headers[source * words + first + e];
    }
  }
  return counts;
}

}  // namespace dovetail
