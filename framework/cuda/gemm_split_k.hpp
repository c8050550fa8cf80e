// Whether LibTorch's GEMMs on a GPU may split their sums over K between thread blocks.
#pragma once

#include <ATen/Context.h>

namespace dovetail {

/// Scope in which bfloat16 GEMMs by cuBLASLt, the preferred back end of a run, may split a sum over
/// K (`allowed`: as before the scope), or not: which products are split, and into how many parts,
/// is chosen by the number of rows, so that a row's bits depend on its batch. Without it a row's
/// sum runs in one order (measured: tests/gpu/batch_invariant_gpu_test.cpp). Process-wide, baked
/// into what is captured inside; the end of a scope brings back what was there before. Immovable.
class GemmSplitK {
 public:
  explicit GemmSplitK(bool allowed);
  ~GemmSplitK();
  GemmSplitK(const GemmSplitK&) = delete;
  GemmSplitK& operator=(const GemmSplitK&) = delete;
  GemmSplitK(GemmSplitK&&) = delete;
  GemmSplitK& operator=(GemmSplitK&&) = delete;

  /// Whether GEMMs may split now.
  static bool is_allowed();

 private:
  const at::CuBLASReductionOption before_;
};

}  // namespace dovetail
