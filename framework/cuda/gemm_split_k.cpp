#include "framework/cuda/gemm_split_k.hpp"

namespace dovetail {
namespace {

using Reduction = at::CuBLASReductionOption;

void set(Reduction option) {
  at::globalContext().setAllowBF16ReductionCuBLAS(
      /*allow_reduced_precision=*/option == Reduction::AllowReducedPrecisionWithSplitK,
      /*allow_splitk=*/option != Reduction::DisallowReducedPrecisionDisallowSplitK);
}

}  // namespace

GemmSplitK::GemmSplitK(bool allowed) : before_(at::globalContext().allowBF16ReductionCuBLAS()) {
  if (!allowed) {
    set(Reduction::DisallowReducedPrecisionDisallowSplitK);
  }
}

GemmSplitK::~GemmSplitK() {
  set(before_);
}

bool GemmSplitK::is_allowed() {
  return at::globalContext().allowBF16ReductionCuBLAS() !=
         Reduction::DisallowReducedPrecisionDisallowSplitK;
}

}  // namespace dovetail
