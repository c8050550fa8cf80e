// Tensors as the attention kernels take them.
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/step/model.hpp"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {

/// Of inputs.on_device and inputs.block_tables, whose tensors must outlive it. Throws ContractError
/// for tensors of other shapes, dtypes or devices.
DeviceSegments segments_of(const UbatchInputs& inputs);

/// heads [rows, heads, dims], or [rows, dims] for rows that all heads share.
AttentionRows rows_of(const at::Tensor& heads);

}  // namespace dovetail::gpu
