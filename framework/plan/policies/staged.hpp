// The policy that is told where to cut: stage lists and a head start, after SGLang's two-batch
// overlap, for 1 to 8 ubatches and 1 to 8 groups of experts.
#pragma once

#include "framework/plan/policy.hpp"

namespace dovetail {

/// The layers' stage lists in a row, embed in front and output behind, are the stages 0, 1, ... of
/// a step. In round r each ubatch u, in ascending order, enqueues its stage r - u * delta. So a
/// ubatch's attention always comes before the next ubatch's, in each layer. Phases that a layer
/// does not have are left out. Throws InputError for lists that break a rule of stages.hpp, for a
/// layer with shared experts that the list does not name, and for a wrong number of ubatches or
/// groups.
/// Source: SGLang, python/sglang/srt/batch_overlap/operations.py and operations_strategy.py.
Schedule make_staged(const PolicyInput& input);

}  // namespace dovetail
