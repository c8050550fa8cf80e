// One ubatch, the exchange on the comm lane, the shared experts beside the dispatch.
#pragma once

#include "framework/plan/policy.hpp"

namespace dovetail {

/// Per MoE layer: attention, route, dispatch (comm), shared_experts, experts, combine (comm). The
/// shared experts run beside the dispatch and not beside the combine, because the dispatch is where
/// ranks first meet after the attention: what is hidden there is the wire and the waiting for a
/// slower rank, and the shared result is ready when finish adds it. Where a layer has no shared
/// experts nothing runs beside the exchange. Throws InputError unless there is exactly one ubatch.
/// Source: the shared-expert overlap of SGLang's single-batch overlap (single_batch_overlap.py).
Schedule make_shared_expert(const PolicyInput& input);

}  // namespace dovetail
