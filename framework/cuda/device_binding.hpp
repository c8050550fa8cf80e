// Ties the calling thread to a GPU and readies what LibTorch makes per thread.
#pragma once

#include <span>

#include <c10/cuda/CUDAStream.h>

namespace dovetail {

/// Makes `device` the calling thread's device. Throws RunError.
void bind_device(c10::DeviceIndex device);

/// Makes the calling thread's cuBLAS and cuBLASLt handles and their workspaces for each stream, and
/// runs a tiny bf16 GEMM through both on it. Handles belong to a thread, workspaces to a handle and
/// a stream, and both allocate when first used, which a capture must not see. Enqueues on the
/// streams; none may be capturing.
void warm_up_blas(std::span<const c10::cuda::CUDAStream> streams);

}  // namespace dovetail
