// Marks small functions that kernels call, too.
#pragma once

#if defined(__CUDACC__)
#define DOVETAIL_HOST_DEVICE __host__ __device__
/// Before a loop with constant bounds: on a device its arrays stay in registers.
#define DOVETAIL_UNROLL _Pragma("unroll")
#else
#define DOVETAIL_HOST_DEVICE
#define DOVETAIL_UNROLL
#endif
