// A frame with the body of a step over it, and what the frames of a policy are made for.
#pragma once

#include <span>

#include "framework/step/model_step.hpp"
#include "framework/step/policy_context.hpp"
#include "framework/step/step_frame.hpp"

namespace dovetail {

/// Immovable: the body refers to the frame. `fault` may be null; it and what `context` names
/// outlive it.
struct FrameStep {
  FrameStep(const PolicyRunContext& context,
            Exchange& exchange,
            const StepBounds& bounds,
            const FrameShape& shape,
            FaultHook* fault);

  /// Makes exchange and body ready for a pass over what the frame holds.
  void begin(Exchange& exchange, PassKind pass, bool keep_plans);

  StepFrame frame;
  ModelStep body;
};

/// For the steps of the policy's iteration.
FrameShape frame_shape(const PolicyRunContext& context);

/// The tokens of each ubatch.
std::span<const std::int64_t> tokens_of(const StepBounds& bounds);

}  // namespace dovetail
