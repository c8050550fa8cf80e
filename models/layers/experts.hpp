// The routed experts that a rank owns, over rows that an exchange grouped by expert.
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail {

/// Experts stacked in dimension 0; rows are output features, as in a checkpoint.
struct ExpertWeights {
  at::Tensor gate_up;  ///< [E_local, 2 I, H]: gate_proj above up_proj
  at::Tensor down;     ///< [E_local, H, I]
};

/// Each row through its expert: rows.rows [R, H] -> [R, H], new; routing weights not applied. One
/// pair of GEMMs per expert: reads the offsets on the host, so CPU only; a device takes a grouped
/// GEMM in its place.
at::Tensor run_experts(const ExpertWeights& weights, const ExpertRows& rows);

}  // namespace dovetail
