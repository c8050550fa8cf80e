// A whole step in one process, for tests: every phase of every ubatch in a legal order, and an
// exchange between the models of an ep group that is a plain loop over tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/step/kv_cache.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

struct SerialStep {
  /// Token ids of each request that this step computes, one after another in the batch.
  std::vector<std::vector<std::int64_t>> requests;
  /// Tokens of each request that earlier steps have put into the cache; empty = none.
  std::vector<std::int64_t> context_lengths;
  /// [T, H] instead of the ids, and [3, T] instead of text positions; undefined = not.
  at::Tensor embeds;
  at::Tensor mrope_positions;
  /// Ends of the ubatches in tokens of the batch; the last is the number of tokens. May cut inside
  /// a request, and may repeat (an empty ubatch).
  std::vector<std::int64_t> ubatch_ends;
  /// Padding rows behind the tokens of each ubatch: slot -1, in no segment.
  std::int64_t padding = 0;
  /// Experts to take per layer [T, k], or empty.
  std::vector<at::Tensor> replay_ids;
  /// Changes the routed experts of a ubatch before they run; may be empty.
  std::function<void(int layer, UbatchState& state)> after_route;
};

/// The cache of some requests, for several steps.
struct SerialCache {
  KvPages pages;
  KvCache cache;
};

struct SerialResult {
  at::Tensor hidden;                    ///< [T, H] after the final norm, or of a stage's last layer
  at::Tensor logits;                    ///< [T, vocabulary]; last stage only
  std::vector<at::Tensor> expert_ids;   ///< per layer [T, k]; dense layers: undefined
  std::vector<at::Tensor> weights;      ///< per layer [T, k]
  std::vector<at::Tensor> natural_ids;  ///< per layer [T, k]
  std::vector<at::Tensor> router_logits;  ///< per layer [T, experts]

  /// Of a layer [T] float32: how far the router's last choice is from the best expert not chosen.
  at::Tensor margin(std::size_t layer) const;
};

/// One ubatch: all tokens.
SerialStep whole_step(std::vector<std::vector<std::int64_t>> requests);

/// A poisoned cache of scattered pages with room for `kv_tokens` of each request, and some pages
/// that belong to nobody.
SerialCache make_serial_cache(const Model& model,
                              const std::vector<std::int64_t>& kv_tokens,
                              int page_size,
                              std::uint64_t seed = 1);

/// The step's inputs on the host; request i has the id 100 + i.
StepWorkload workload_of(const SerialStep& step);

/// `ranks` are the models of an ep group, in rank order; rank 0's replicated weights are used. Rows
/// are in batch order, padding left out.
SerialResult run_step(const std::vector<std::unique_ptr<Model>>& ranks,
                      const SerialStep& step,
                      SerialCache& cache);

/// On a cache of its own, with pages of 3 tokens.
SerialResult run_step(const std::vector<std::unique_ptr<Model>>& ranks, const SerialStep& step);

/// max|a - b| / max|b|; NaN where either holds one.
double relative_error(const at::Tensor& a, const at::Tensor& b);

}  // namespace dovetail
