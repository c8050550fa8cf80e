// The routed experts that a rank owns, over rows that an exchange grouped by expert.
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/choices.hpp"

namespace dovetail {

/// Experts stacked in dimension 0; rows are output features, as in a checkpoint.
struct ExpertWeights {
  at::Tensor gate_up;  ///< [E_local, 2 I, H]: gate_proj above up_proj
  at::Tensor down;     ///< [E_local, H, I]
};

/// Each row through its expert (those of rows.offsets, from rows.first_expert on): rows.rows [R, H]
/// -> [R, H], new; routing weights not applied. On a
/// GPU rows from offsets.back() on are unspecified. bfloat16 on a GPU: two grouped GEMMs that read
/// the offsets there; else a pair of GEMMs per expert, by offsets on the host (a GPU is waited
/// for). batch_invariant, on the CPU: multiply_by_rows (products.hpp).
at::Tensor run_experts(const ExpertWeights& weights,
                       const ExpertRows& rows,
                       Numerics numerics = Numerics::fast);

}  // namespace dovetail
