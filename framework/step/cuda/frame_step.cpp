#include "framework/step/cuda/frame_step.hpp"

#include <algorithm>

namespace dovetail {

FrameStep::FrameStep(const PolicyRunContext& context,
                     Exchange& exchange,
                     const StepBounds& bounds,
                     const FrameShape& shape,
                     FaultHook* fault)
    : frame(bounds, shape, context.device.device()),
      body(context.model, exchange, context.iteration.cache(), frame.outputs()) {
  body.replay_routing(frame.expert_ids());
  body.set_fault(fault);
}

void FrameStep::begin(Exchange& exchange, PassKind pass, bool keep_plans) {
  exchange.buffers().begin_step(tokens_of(frame.bounds()));
  body.begin(frame.work(), pass, keep_plans);
}

FrameShape frame_shape(const PolicyRunContext& context) {
  const auto& steps = context.iteration.steps();
  std::int64_t max_pages = 0;
  for (const auto& step : steps) {
    max_pages = std::max(max_pages, step.block_tables.size(1));
  }
  const auto& outputs = context.outputs.front();
  return {.dims = context.model.dims(),
          .num_layers = context.model.shape().num_layers(),
          .max_pages = max_pages,
          .has_embeds = steps.front().embeds.defined(),
          .is_mrope = steps.front().positions.dim() == 2,
          .replays_routing = !context.given.expert_ids.empty(),
          .selection = {.logits = outputs.logits.defined(),
                        .logits_all = outputs.logits_all.defined(),
                        .layers = !outputs.layers.empty(),
                        .routing = outputs.expert_ids.defined()}};
}

std::span<const std::int64_t> tokens_of(const StepBounds& bounds) {
  return std::span(bounds.tokens).first(static_cast<std::size_t>(bounds.num_ubatches));
}

}  // namespace dovetail
