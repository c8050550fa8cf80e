// How LibTorch computes on GPUs here, in runs and in benches alike.
#pragma once

namespace dovetail {

/// Settings of the whole process. Float32 is the checking path, so it stays float32. The SM count
/// that the GEMMs may use is honoured by cuBLASLt only. Flash attention is pinned, because the
/// others choose plans when they are first used.
void set_gpu_arithmetic();

}  // namespace dovetail
