#include "models/layers/cuda/segments.hpp"

#include <cstdint>
#include <string>

#include "framework/base/check.hpp"

namespace dovetail::gpu {
namespace {

const std::int32_t* numbers(const at::Tensor& tensor, std::int64_t count, const char* name) {
  DOVETAIL_CHECK(tensor.defined() && tensor.is_cuda() && tensor.scalar_type() == at::kInt &&
                     tensor.is_contiguous() && tensor.numel() == count,
                 std::string(name) + " must be [" + std::to_string(count) + "] int32 on the GPU");
  return tensor.const_data_ptr<std::int32_t>();
}

}  // namespace

DeviceSegments segments_of(const UbatchInputs& inputs) {
  const at::Tensor& tables = inputs.block_tables;
  const std::int64_t count = tables.size(0);
  DOVETAIL_CHECK(tables.is_cuda() && tables.scalar_type() == at::kInt &&
                     (tables.size(1) <= 1 || tables.stride(1) == 1),
                 "block_tables must be int32 on the GPU, with neighbouring pages");
  const SegmentTensors& on_device = inputs.on_device;
  return {.query_starts = numbers(on_device.query_starts, count + 1, "query_starts"),
          .key_lengths = numbers(on_device.key_lengths, count, "key_lengths"),
          .key_starts = numbers(on_device.key_starts, count + 1, "key_starts"),
          .block_tables = tables.const_data_ptr<std::int32_t>(),
          .table_stride = tables.stride(0),
          .count = count};
}

AttentionRows rows_of(const at::Tensor& heads) {
  return {.data = heads.const_data_ptr(),
          .token_stride = heads.stride(0),
          .head_stride = heads.dim() == 3 ? heads.stride(1) : 0};
}

}  // namespace dovetail::gpu
