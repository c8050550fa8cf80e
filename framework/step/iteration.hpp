// What the steps of an iteration share: the KV cache of a rank's requests, and the tensors that
// refer to its pages. All policies with pages of one size share it; where forward passes fill a
// context, they must also have one numerics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/base/types.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/workload.hpp"
#include "framework/step/kv_cache.hpp"
#include "framework/step/model.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// Activations and routing that are given, not computed: one entry for each step (or context step),
/// on the model's device; an undefined tensor leaves it to the model.
struct GivenInputs {
  std::vector<at::Tensor> embeds;      ///< [tokens, H] activation dtype
  std::vector<at::Tensor> expert_ids;  ///< [layers, tokens, k] int64
  RoutingSource routing = RoutingSource::natural;
  std::vector<at::Tensor> context_embeds;
  std::vector<at::Tensor> context_expert_ids;
};

/// The entry of a step, or an undefined tensor where nothing is given.
inline at::Tensor given_at(const std::vector<at::Tensor>& given, std::size_t step) {
  return given.empty() ? at::Tensor() : given.at(step);
}

/// Owns the cache. The pages of a rank's requests, of all variants, stay where they are over all
/// iterations. The context is filled once and never written again.
class Iteration {
 public:
  /// Throws InputError where the cache is too small for the workload or page_size does not divide
  /// it.
  Iteration(const RankWorkload& workload,
            const GivenInputs& given,
            const ExecutionConfig& execution,
            const Model& model,
            std::uint64_t seed,
            at::Device device);

  /// True if a policy with these settings can use this cache.
  bool suits(const ExecutionConfig& execution) const;

  const std::vector<StepInputs>& steps() const { return steps_; }

  const std::vector<StepInputs>& context_steps() const { return context_steps_; }

  /// The pages of a variant's requests, in a cache that all variants share.
  KvPages pages_of(int variant) const;

  KvCache& cache() { return cache_; }

  /// Fills the slots that an iteration of this variant writes with NaN, so that a read before the
  /// write shows. What other variants have left stays.
  void poison_steps(int variant);

  /// The slots that no step writes [n] int64, ascending, on the cache's device.
  at::Tensor untouched_slots() const;

  bool is_context_filled() const { return context_filled_; }

  void set_context_filled() { context_filled_ = true; }

  /// Buffers for what the next context step leaves beside the keys and values. They stay where they
  /// are.
  StepOutputs& begin_context_step(const Model& model, const OutputSelection& selection);

  /// Moves the routing of the context step that was begun last to the host, and drops the rest.
  void end_context_step();

  /// The routing of each context step, on the host; undefined tensors where it is not kept.
  const std::list<StepOutputs>& context_outputs() const { return context_outputs_; }

 private:
  int page_size_;
  std::int64_t cache_tokens_;
  Numerics numerics_;  ///< of the policies that fill and read the cache
  KvPages pages_;
  KvCache cache_;
  int num_variants_;
  std::vector<StepInputs> steps_;
  std::vector<StepInputs> context_steps_;
  std::vector<at::Tensor> step_slots_;  ///< of each variant: [tokens of its steps] int64
  bool context_filled_ = false;
  std::list<StepOutputs> context_outputs_;
};

/// Buffers for the outputs of each step.
std::vector<StepOutputs> make_outputs(const Iteration& iteration,
                                      const Model& model,
                                      const OutputSelection& selection);

}  // namespace dovetail
