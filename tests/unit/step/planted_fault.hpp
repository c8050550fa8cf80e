// A data fault as tests plant it.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "framework/step/data_fault.hpp"
#include "framework/step/fault.hpp"

namespace dovetail {

/// The fault at layer 1, ubatch 0, token 2, iteration 3 of rank 0.
inline FaultConfig config(FaultKind kind, const std::string& phase) {
  return {.kind = kind, .rank = 0, .layer = 1, .phase = phase, .iteration = 3, .token = 2};
}

/// Active, unless the test is of another iteration.
struct Planted {
  explicit Planted(const FaultConfig& stated, bool is_active = true)
      : fault(stated, Rank(0), at::kCPU) {
    fault.set_iteration(is_active ? 3 : 2);
  }

  DataFault& data() { return *fault.data(); }

  InjectedFault fault;
};

}  // namespace dovetail
