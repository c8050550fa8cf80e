#include "framework/step/weight_source.hpp"

#include "framework/base/check.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

bool is_writable_device(const at::Device& device) {
#ifdef DOVETAIL_WITH_CUDA
  return device.is_cpu() || device.is_meta() || device.is_cuda();
#else
  return device.is_cpu() || device.is_meta();
#endif
}

}  // namespace

RequestedElements check_request(const WeightRequest& request) {
  const at::Tensor& destination = request.destination;
  const std::string what = "request for '" + request.name + "'";
  DOVETAIL_CHECK(destination.defined() && destination.is_contiguous(),
                 what + ": the destination must be a contiguous tensor");
  if (!is_writable_device(destination.device())) {
    throw RunError(what + ": reading weights to " + destination.device().str() +
                   " is not built yet");
  }
  const auto rank = static_cast<std::int64_t>(request.shape.size());
  DOVETAIL_CHECK(rank >= 1 && destination.dim() == rank, what + ": number of dimensions");
  std::int64_t row_elements = 1;
  for (std::int64_t i = 1; i < rank; ++i) {
    DOVETAIL_CHECK_EQ(destination.size(i), request.shape[static_cast<std::size_t>(i)]);
    row_elements *= destination.size(i);
  }
  const std::int64_t num_rows = destination.size(0);
  DOVETAIL_CHECK(request.first_row >= 0 && request.first_row <= request.shape[0] - num_rows,
                 what + ": rows outside of the tensor");
  RequestedElements elements;
  elements.first = request.first_row * row_elements;
  elements.count = num_rows * row_elements;
  elements.dtype = from_torch(destination.scalar_type());
  if (destination.is_cpu()) {
    elements.data = static_cast<std::byte*>(destination.data_ptr());
  }
  return elements;
}

}  // namespace dovetail
