// The policy of vLLM's UBatchWrapper for N >= 2 ubatches: while one ubatch's tokens travel, the
// next one computes.
#pragma once

#include "framework/plan/policy.hpp"

namespace dovetail {

/// A MoE layer is two rounds of turns, ubatch 0 to N-1 in each:
///   attention, route, dispatch (comm);   then   experts, combine (comm), shared_experts.
/// Dense layers, embed and output belong to the turn that they fall into, so a ubatch goes through
/// them without handing over. The baton passes where consecutive ops belong to different ubatches:
/// behind each dispatch, and behind each combine and the shared experts that run beside it. The
/// next attention or output of a ubatch waits for its combine. The position of an op is when it is
/// enqueued, so an exchange op stands right behind the op that it waits for. Throws InputError
/// unless 2 <= num_ubatches <= kMaxUbatches. Source: vLLM, vllm/v1/worker/gpu_ubatch_wrapper.py and
/// vllm/v1/worker/ubatching.py.
Schedule make_dual_batch(const PolicyInput& input);

}  // namespace dovetail
