// Products of a warpgroup (four warps) on Hopper's tensor cores, with both operands in shared
// memory, and the barriers around them. PTX ISA 8.7, section 9.7.15 (wgmma) and 9.7.13 (mbarrier).
//
// Operands lie in slabs: rows of 64 bfloat16 (128 bytes), with the 16-byte chunk c of row r at
// place c ^ (r % 8) of its row (the 128-byte swizzle); a slab is aligned to 1024 bytes. Longer rows
// take several slabs, one behind the other. With lane = 4 g + t, accumulator 4 j + i of warp w is
// of row 16 w + g + 8 (i / 2), column 8 j + 2 t + i % 2.
#pragma once

#include <cstdint>

#include "models/layers/cuda/bf16.cuh"

namespace dovetail::gpu {

inline constexpr int kWarpgroup = 4 * kWarpSize;
inline constexpr int kSlabColumns = 64;
inline constexpr int kSlabRowBytes = kSlabColumns * static_cast<int>(sizeof(bf16));
inline constexpr int kChunkBytes = 16;
inline constexpr int kAtomBytes = 8 * kSlabRowBytes;  // the rows of one swizzle

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// Byte of chunk `chunk` of a row within a slab.
__device__ __forceinline__ int swizzled(int row, int chunk) {
  return row * kSlabRowBytes + ((chunk ^ (row & 7)) * kChunkBytes);
}

/// An operand's descriptor. `offset` is known when this is compiled, so that the operand's next
/// part costs one addition. (In a cluster an address names its block, too.)
__device__ __forceinline__ std::uint64_t operand(unsigned address, int offset, int slab_bytes) {
  constexpr std::uint64_t swizzle_of_128_bytes = std::uint64_t{1} << 62;
  const unsigned low = ((address & 0x3FFFFu) >> 4) +
                       (static_cast<unsigned>(slab_bytes >> 4) << 16) +
                       static_cast<unsigned>(offset >> 4);
  return std::uint64_t{low} | (std::uint64_t{kAtomBytes >> 4} << 32) | swizzle_of_128_bytes;
}

/// One whose sums run along its rows. `offset` advances by 32 bytes for 16 columns.
__device__ __forceinline__ std::uint64_t row_major_operand(unsigned address, int offset) {
  constexpr int unused = kChunkBytes;
  return operand(address, offset, unused);
}

/// One whose sums run over its rows, with slabs of `slab_bytes`. `offset` advances by two atoms for
/// 16 rows.
__device__ __forceinline__ std::uint64_t column_major_operand(unsigned address,
                                                              int offset,
                                                              int slab_bytes) {
  return operand(address, offset, slab_bytes);
}

__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Until at most kOpen groups of products are not done.
template <int kOpen>
__device__ __forceinline__ void await_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kOpen) : "memory");
}

/// What this thread has written to shared memory becomes visible to products behind the next
/// barrier.
__device__ __forceinline__ void publish_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Keeps the compiler from moving work on sums across a beginning or an end of products.
template <int kSize>
__device__ __forceinline__ void pin(float (&sums)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    asm volatile("" : "+f"(sums[i])::"memory");
  }
}

/// The same for an operand.
template <int kSteps>
__device__ __forceinline__ void pin(unsigned (&operand)[kSteps][4]) {
#pragma unroll
  for (int i = 0; i < 4 * kSteps; ++i) {
    asm volatile("" : "+r"(operand[i / 4][i % 4])::"memory");
  }
}

// The registers of `n` sums, and their places in an instruction.
#define DOVETAIL_8_SUMS(a, n)                                                                     \
  "+f"((a)[(n)]), "+f"((a)[(n) + 1]), "+f"((a)[(n) + 2]), "+f"((a)[(n) + 3]), "+f"((a)[(n) + 4]), \
      "+f"((a)[(n) + 5]), "+f"((a)[(n) + 6]), "+f"((a)[(n) + 7])
#define DOVETAIL_32_SUMS(a, n)                                                      \
  DOVETAIL_8_SUMS(a, n), DOVETAIL_8_SUMS(a, (n) + 8), DOVETAIL_8_SUMS(a, (n) + 16), \
      DOVETAIL_8_SUMS(a, (n) + 24)
#define DOVETAIL_PLACES_0_TO_31                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DOVETAIL_PLACES_32_TO_63                                                     \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DOVETAIL_PLACES_64_TO_127                    \
  "%64, %65, %66, %67, %68, %69, %70, %71, "         \
  "%72, %73, %74, %75, %76, %77, %78, %79, "         \
  "%80, %81, %82, %83, %84, %85, %86, %87, "         \
  "%88, %89, %90, %91, %92, %93, %94, %95, "         \
  "%96, %97, %98, %99, %100, %101, %102, %103, "     \
  "%104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, " \
  "%120, %121, %122, %123, %124, %125, %126, %127"

/// sums [64, 64] = a [64, 16] b [64, 16]^T, or += where `add`; both row-major.
__device__ __forceinline__ void multiply(float (&sums)[32],
                                         std::uint64_t a,
                                         std::uint64_t b,
                                         bool add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" DOVETAIL_PLACES_0_TO_31
      "}, %32, %33, p, 1, 1, 0, 0;\n"
      "}\n"
      : DOVETAIL_32_SUMS(sums, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

/// sums [64, 64] += a [64, 16] b [64, 16]^T; a in registers, of row g (+ 8 in a[1], a[3]) of the
/// warp's, columns 2 t and 2 t + 1 (+ 8 in a[2], a[3]); b row-major.
__device__ __forceinline__ void multiply_add(float (&sums)[32],
                                             const unsigned (&a)[4],
                                             std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" DOVETAIL_PLACES_0_TO_31 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 0;\n"
      : DOVETAIL_32_SUMS(sums, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// sums [64, 128] = a [64, 16] b [128, 16]^T, or += where `add`; both row-major.
__device__ __forceinline__ void multiply(float (&sums)[64],
                                         std::uint64_t a,
                                         std::uint64_t b,
                                         bool add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" DOVETAIL_PLACES_0_TO_31 ", " DOVETAIL_PLACES_32_TO_63
      "}, %64, %65, p, 1, 1, 0, 0;\n"
      "}\n"
      : DOVETAIL_32_SUMS(sums, 0), DOVETAIL_32_SUMS(sums, 32)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

/// sums [64, 128] += a [64, 16] b [16, 128]; a in registers, as above; b column-major.
__device__ __forceinline__ void multiply_add(float (&sums)[64],
                                             const unsigned (&a)[4],
                                             std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" DOVETAIL_PLACES_0_TO_31 ", " DOVETAIL_PLACES_32_TO_63
      "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
      : DOVETAIL_32_SUMS(sums, 0), DOVETAIL_32_SUMS(sums, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// sums [64, 256] += a [64, 16] b [16, 256]; a row-major, b column-major.
__device__ __forceinline__ void multiply_add(float (&sums)[128], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{" DOVETAIL_PLACES_0_TO_31 ", " DOVETAIL_PLACES_32_TO_63 ", " DOVETAIL_PLACES_64_TO_127
      "}, %128, %129, 1, 1, 1, 0, 1;\n"
      : DOVETAIL_32_SUMS(sums, 0),
        DOVETAIL_32_SUMS(sums, 32),
        DOVETAIL_32_SUMS(sums, 64),
        DOVETAIL_32_SUMS(sums, 96)
      : "l"(a), "l"(b));
}

/// The same with `a` in registers, as above.
__device__ __forceinline__ void multiply_add(float (&sums)[128],
                                             const unsigned (&a)[4],
                                             std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{" DOVETAIL_PLACES_0_TO_31 ", " DOVETAIL_PLACES_32_TO_63 ", " DOVETAIL_PLACES_64_TO_127
      "}, {%128, %129, %130, %131}, %132, 1, 1, 1, 1;\n"
      : DOVETAIL_32_SUMS(sums, 0),
        DOVETAIL_32_SUMS(sums, 32),
        DOVETAIL_32_SUMS(sums, 64),
        DOVETAIL_32_SUMS(sums, 96)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef DOVETAIL_8_SUMS
#undef DOVETAIL_32_SUMS
#undef DOVETAIL_PLACES_0_TO_31
#undef DOVETAIL_PLACES_32_TO_63
#undef DOVETAIL_PLACES_64_TO_127

/// Begins sums = a b^T, both operands row-major over kSlabs slabs of kSlabBytes.
template <int kSlabs, int kSlabBytes, int kSums>
__device__ __forceinline__ void begin_row_products(float (&sums)[kSums], unsigned a, unsigned b) {
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
    for (int step = 0; step < kSlabColumns / 16; ++step) {
      const int offset = slab * kSlabBytes + step * 32;
      multiply(sums, row_major_operand(a, offset), row_major_operand(b, offset), slab + step > 0);
    }
  }
  end_products();
}

/// A barrier in shared memory; phases count from 0.
struct SharedBarrier {
  std::uint64_t state;

  __device__ __forceinline__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&state)),
                 "r"(arrivals)
                 : "memory");
  }

  /// Once all copies that this thread has begun are done.
  __device__ __forceinline__ void arrive_behind_copies() {
    asm volatile(
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&state))
        : "memory");
  }

  __device__ __forceinline__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&state))
                 : "memory");
  }

  /// Arrives, and the phase waits for that many bytes of bulk copies, too.
  __device__ __forceinline__ void arrive_expecting(int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&state)),
        "r"(bytes)
        : "memory");
  }

  /// At the barrier in this place of the shared memory of block `rank` of the cluster.
  __device__ __forceinline__ void arrive_at(unsigned rank) {
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
        "}\n" ::"r"(shared_address(&state)),
        "r"(rank)
        : "memory");
  }

  /// Until phase `phase` is complete; the phase before it must be.
  __device__ __forceinline__ void wait(int phase) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra through;\n"
        "bra again;\n"
        "through:\n"
        "}\n" ::"r"(shared_address(&state)),
        "r"(phase & 1)
        : "memory");
  }
};

/// Registers of each thread of this warpgroup from here on; a multiple of 8.
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// 16 bytes from global to shared memory, in the background.
__device__ __forceinline__ void copy_chunk(unsigned to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void end_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Until at most kOpen groups of this thread's copies are not done.
template <int kOpen>
__device__ __forceinline__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kOpen) : "memory");
}

}  // namespace dovetail::gpu
