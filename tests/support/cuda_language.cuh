// Enough of CUDA's language for clang-tidy 14 to read our kernels, which cannot read CUDA 13's own
// headers of it. Included ahead of a .cu file by tests/check_style.sh and by nothing else; nothing
// here has a body. A kernel that uses more of the language is told by the lint as an undeclared
// name: it is added here.
#pragma once

// NOLINTBEGIN
#define __host__ __attribute__((host))
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))

// Standard headers come before the pragma below: they are for the host. One that a kernel file
// includes itself must be among them.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

// Called for kernel<<<...>>>.
extern "C" cudaError_t cudaConfigureCall(dim3 grid,
                                         dim3 block,
                                         std::size_t shared = 0,
                                         cudaStream_t stream = nullptr);

// The header's own takes a void pointer.
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value);

// Beside the host's functions of the same names.
__device__ float cosf(float value);
__device__ float exp2f(float value);
__device__ float expf(float value);
__device__ float fmaxf(float a, float b);
__device__ bool isnan(float value);
__device__ float rsqrtf(float value);
__device__ float sinf(float value);

// From here on every function is for the host and the device, our own and those of cuda_bf16.h.
#pragma clang force_cuda_host_device begin

extern const uint3 threadIdx;
extern const uint3 blockIdx;
extern const dim3 blockDim;
extern const dim3 gridDim;

template <class T>
T min(T a, T b);
template <class T>
T max(T a, T b);
template <class T>
T atomicAdd(T* address, T value);
unsigned long long atomicMax(unsigned long long* address, unsigned long long value);
int atomicCAS(int* address, int compare, int value);
int atomicExch(int* address, int value);
void __syncwarp(unsigned mask = 0xffffffff);
void __threadfence();
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32);
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32);
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane, int width = 32);
unsigned __reduce_max_sync(unsigned mask, unsigned value);
unsigned __reduce_min_sync(unsigned mask, unsigned value);
unsigned __ballot_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
int __any_sync(unsigned mask, int predicate);
int __syncthreads_and(int predicate);
int __syncthreads_or(int predicate);
template <class Config, class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const Config* config,
                               void (*kernel)(Parameters...),
                               Arguments&&... arguments);
template <class Window>
void* ncclGetLsaPointer(Window window, std::size_t offset, int peer);
int __ffs(int value);
int __popc(unsigned value);
std::size_t __cvta_generic_to_shared(const void* address);
unsigned __byte_perm(unsigned a, unsigned b, unsigned selector);
int __float_as_int(float value);
unsigned __float_as_uint(float value);
float __int_as_float(int value);
float __fadd_rn(float a, float b);
float __fmul_rn(float a, float b);
template <class T>
T __ldg(const T* address);
template <class T>
void __stcg(T* address, T value);
// NOLINTEND
