// The layers in bfloat16 on a GPU: own kernels around LibTorch's GEMMs and flash attention. They
// enqueue on the current stream and read nothing back; sizes come from shapes and bounds alone, so
// they can be captured. Each has the contract of the function of the same name in models/layers;
// what differs is said here.
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "models/layers/attention.hpp"
#include "models/layers/experts.hpp"
#include "models/layers/latent_attention.hpp"
#include "models/layers/router.hpp"

namespace dovetail::gpu {

#ifdef DOVETAIL_WITH_CUDA
inline constexpr bool kIsBuilt = true;
#else
inline constexpr bool kIsBuilt = false;
#endif

/// Whether the functions below serve tensors such as x: bfloat16 on a GPU. All else is computed by
/// ATen: float32 on a GPU is there to check these.
inline bool serves(const at::Tensor& x) {
  return kIsBuilt && x.is_cuda() && x.scalar_type() == at::kBFloat16;
}

/// Calls `run` in a scope in which a library counts all SMs: it may choose a kernel that sums in
/// another order by how many SMs there are.
void on_all_sms(const std::function<void()>& run);

/// Whether rms_norm can take x [..., D]: contiguous, aligned to 16 bytes, D a multiple of 8 and at
/// most 16384.
bool can_norm(const at::Tensor& x, const at::Tensor& weight);

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

/// positions [T], or [3, T] with frequency f reading row position_rows[f]; the last dimension has
/// stride 1. Angles and their cosines are of the GPU's float functions.
at::Tensor rotary_table(const at::Tensor& positions,
                        const at::Tensor& frequencies,
                        const at::Tensor& position_rows,
                        double attention_factor);

/// Reads inputs.on_device, not inputs.segments. head_dim is a multiple of 8, at most 256; x and
/// the cache are contiguous. Rows behind the last segment attend to nothing: zeros go into the
/// output projection. Probabilities are rounded to bf16 before they meet the values; the sums over
/// keys are in float, rounded once. Which kernel takes the rows follows from max_query_length:
/// decode for at most 1, else prefill attention, whose row has the same bits in any batch and cut.
/// batch_invariant: the keys of decode are split by the length of the segment alone.
at::Tensor self_attention(const AttentionDims& dims,
                          const AttentionWeights& weights,
                          const at::Tensor& x,
                          const at::Tensor& rotary,
                          const UbatchInputs& inputs,
                          at::Tensor& keys,
                          at::Tensor& values,
                          Numerics numerics);

/// Whether latent_attention takes such sizes: keys of 128 and 64 rotary dims, values of 128,
/// latents of 512, as in all published models.
inline bool takes_latents(const LatentAttentionDims& dims) {
  return dims.qk_nope_head_dim == 128 && dims.qk_rope_head_dim == 64 && dims.v_head_dim == 128 &&
         dims.kv_lora_rank == 512;
}

/// Reads inputs.on_device, not inputs.segments. Rows behind the last segment are as in
/// self_attention. Segments of at most one row (max_query_length) are absorbed, in other steps all
/// rows are expanded; batch_invariant: a row has the same bits in all steps of one such kind.
at::Tensor latent_attention(const LatentAttentionDims& dims,
                            const LatentAttentionWeights& weights,
                            const at::Tensor& x,
                            const at::Tensor& rotary,
                            const UbatchInputs& inputs,
                            at::Tensor& latents,
                            Numerics numerics);

/// Whether project can multiply these: sizes that are multiples of 8, contiguous, aligned to 16
/// bytes.
bool can_project(const at::Tensor& x, const at::Tensor& weight);

/// x [R, in] weight [out, in]^T (+ bias [out]) as the grouped GEMM of one group, whose sums run
/// over `in` in one order for any number of rows and SMs; that of cuBLASLt does not, also where it
/// must not split a sum.
at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// x and weight are read in bfloat16, no copy in float32 is made.
/// batch_invariant: in blocks of rows of one size (tiles.hpp).
at::Tensor project_to_float32(const at::Tensor& x, const at::Tensor& weight, Numerics numerics);

/// Whether route can choose among logits [T, experts]: bfloat16 or float32 on a GPU, contiguous, at
/// most 1024 experts, 32 choices and 32 groups.
bool can_route(const at::Tensor& logits, const RouterRule& rule);

Routing route(const at::Tensor& logits,
              const at::Tensor& bias,
              const at::Tensor& replay_ids,
              const at::Tensor& slot_mapping,
              const RouterRule& rule);

/// rows.rows [R, H]: H and the experts' inner size are multiples of 8. Rows of the result from
/// offsets.back() on are unspecified; such rows are not read.
at::Tensor run_experts(const ExpertWeights& weights, const ExpertRows& rows);

/// Whether swiglu can take gate_up [T, 2 I]: contiguous, aligned to 16 bytes, I a multiple of 8.
bool can_swiglu(const at::Tensor& gate_up);

/// Only rows before *end are computed; `end` (device memory) may be null = all.
at::Tensor swiglu(const at::Tensor& gate_up, const std::int32_t* end);

}  // namespace dovetail::gpu
