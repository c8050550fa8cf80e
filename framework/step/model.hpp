// The interface between a step and a model: one call for each phase. A model knows no policies,
// ranks or threads. ModelStep (model_step.hpp) joins a model, an exchange and a batch, and runs the
// ops of a schedule with them.
//
// In shapes T is the number of tokens of a ubatch, H the hidden size, k the experts of a token, and
// R the rows that this rank's experts compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/choices.hpp"
#include "framework/plan/expert_groups.hpp"
#include "framework/plan/phase.hpp"

namespace dovetail {

/// The tokens of one request in one ubatch, as attention needs them. The keys and values of the
/// request's first context_length positions are in the cache: filled by earlier steps, or by
/// earlier ubatches of this step.
struct AttentionSegment {
  std::int64_t token_start = 0;     ///< first row within the ubatch
  std::int64_t query_length = 0;    ///< rows, >= 1
  std::int64_t context_length = 0;  ///< keys before the first row
};

/// The segments as attention on a GPU reads them. The tensors lie in fixed places, so that a
/// captured step can be replayed with other values. S is the number of segments, padding included;
/// a padding segment is empty. On the CPU all tensors are undefined.
struct SegmentTensors {
  at::Tensor query_starts;  ///< [S + 1] int32: first row of each segment, then the end of the rows
  at::Tensor key_lengths;   ///< [S] int32: context and query length; 0 = padding
  at::Tensor key_starts;    ///< [S + 1] int32: sum of the key lengths before each segment, then all
  at::Tensor last_rows;     ///< [S] int64: last row of each segment; 0 = padding
  // Bounds that hold for every replay; kernels are launched for them.
  std::int64_t max_query_length = 0;
  std::int64_t max_key_length = 0;
  std::int64_t max_keys = 0;  ///< of key_starts.back()
  bool has_context = false;   ///< a segment may have a context
};

/// Inputs of one ubatch: views into the tensors of the rank's batch, cut along their tokens.
struct UbatchInputs {
  std::int64_t num_tokens = 0;
  at::Tensor input_ids;     ///< [T] int64
  at::Tensor embeds;        ///< [T, H] activation dtype; where defined, they replace the look-up of
                            ///< input_ids; in a later stage: the hidden states of the stage before
  at::Tensor positions;     ///< [T] int64, or [3, T] (M-RoPE)
  at::Tensor slot_mapping;  ///< [T] int64: cache slot of each token; -1 = padding
  at::Tensor block_tables;  ///< [segments, max pages] int32: the pages of the request of each
                            ///< segment, in order of position; -1 = none
  std::vector<AttentionSegment> segments;  ///< as of now; a captured step must not depend on them
  SegmentTensors on_device;
};

/// What attention keeps of a rank's requests, in one tensor a layer of the stage and part: [pages,
/// page_size, kv_heads, head_dim], activation dtype. Slot s is place s % page_size of page s /
/// page_size. All models share this layout: pages, poison, hashes and records rely on it.
struct KvCache {
  /// A part by its name in records, without the layer.
  struct Part {
    const char* name;
    std::vector<at::Tensor> KvCache::*layers;
  };

  std::vector<at::Tensor> keys;  ///< these two, or
  std::vector<at::Tensor> values;
  std::vector<at::Tensor> latents;  ///< what keys and values are computed from

  /// Of a model whose ModelDims::caches_latents is so.
  static std::vector<Part> parts_of(bool caches_latents) {
    return caches_latents
               ? std::vector<Part>{{"latent_", &KvCache::latents}}
               : std::vector<Part>{{"key_", &KvCache::keys}, {"value_", &KvCache::values}};
  }

  std::vector<Part> parts() const { return parts_of(!latents.empty()); }

  std::size_t num_layers() const { return latents.empty() ? keys.size() : latents.size(); }
};

/// What flows between the phases of one ubatch. Each phase states which fields it reads and writes.
struct UbatchState {
  UbatchInputs inputs;
  at::Tensor hidden;      ///< [T, H] residual stream
  at::Tensor rotary;      ///< [2, T, head_dim / 2] activation dtype: cos and sin of the positions
  at::Tensor moe_input;   ///< [T, H] normed input of router, experts and shared experts
  at::Tensor expert_ids;  ///< [T, k] int64
  at::Tensor weights;     ///< [T, k] float32
  at::Tensor router_logits;  ///< [T, experts] of ModelDims::router_dtype
  at::Tensor router_scores;  ///< [T, experts] float32: what the router chooses by; undefined where
                             ///< that is router_logits
  at::Tensor natural_ids;    ///< [T, k] int64: the router's choice; expert_ids where not replayed
  at::Tensor shared_output;  ///< [T, H], undefined where the layer has no shared experts
};

/// Multiplications and additions of one token in the linear layers of each phase, over all layers
/// of a stage: twice the elements of the matrices that it meets.
struct TokenFlops {
  double attention = 0;  ///< projections, without what follows from keys
  double route = 0;
  double experts = 0;         ///< the chosen ones
  double shared_experts = 0;  ///< with their gate
  double mlp = 0;             ///< dense layers

  double sum() const { return attention + route + experts + shared_experts + mlp; }
};

/// Sizes that the parts around a model need.
struct ModelDims {
  std::int64_t hidden = 0;
  std::int64_t vocabulary = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  bool caches_latents = false;     ///< in place of keys and values; kv_heads is 1 then
  std::int64_t max_positions = 0;  ///< all positions must be below; 0 = any
  int num_experts = 0;
  int top_k = 0;
  ExpertGroups expert_groups;
  bool has_router_scores = false;   ///< routers choose by other numbers than their logits
  bool has_float32_router = false;  ///< routers' logits are float32, whatever the dtype
  at::ScalarType dtype = at::kFloat;
  int first_layer = 0;         ///< the model's own number of the stage's layer 0
  bool is_first_stage = true;  ///< looks up input_ids; others read embeds
  bool is_last_stage = true;   ///< norms its output and has logits
  TokenFlops token_flops;      ///< not of lm_head
  double flops_per_key =
      0;  ///< of one query against one key, over all heads and layers of the stage
  double flops_per_decode_key = 0;  ///< the same of a request's only query
  double flops_per_expanded_key =
      0;  ///< of a context's latent that becomes keys and values for several queries

  /// Elements that a layer caches of a token.
  std::int64_t cached_elements() const {
    return std::ssize(KvCache::parts_of(caches_latents)) * kv_heads * head_dim;
  }

  /// Of routers' logits.
  at::ScalarType router_dtype() const { return has_float32_router ? at::kFloat : dtype; }
};

/// Contents of the parameters as numbers that do not depend on the grid: sums (mod 2^64) over
/// parameters of a hash of name and bytes.
struct WeightsDigest {
  std::uint64_t replicated = 0;  ///< parameters that every rank holds
  std::uint64_t experts =
      0;  ///< experts that this rank owns; summed over the ep group it covers all
};

/// A model, or a pipeline stage of it, on one rank. The rank holds all weights of attention, router
/// and dense layers, and its own experts. Layers count from 0 within the stage.
///
/// All phases are const. They may be called for different ubatches from different threads, one call
/// at a time. They enqueue on the current stream and never synchronise. A ubatch may have no tokens
/// in every phase. All tensors live on the model's device and are contiguous.
class Model {
 public:
  Model() = default;
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  Model(Model&&) = delete;
  Model& operator=(Model&&) = delete;

  virtual const ModelShape& shape() const = 0;
  virtual const ModelDims& dims() const = 0;
  virtual WeightsDigest weights_digest() const = 0;
  virtual std::int64_t weight_bytes() const = 0;

  /// A model of the same weights that computes with these numerics. It shares all tensors, so it is
  /// cheap, and it may outlive this one. A model that an architecture makes is `fast`. With
  /// batch_invariant every row that a phase gives depends on that row's inputs alone (in attention
  /// on its request's rows up to itself). It does not depend on other rows, on how a batch or a
  /// request is cut, on ranks or on threads. On a GPU this holds for steps of one kind: with
  /// max_query_length 1 another kernel attends than with more.
  virtual std::unique_ptr<Model> with_numerics(Numerics numerics) const = 0;

  /// input_ids, or embeds where they are defined, -> hidden; positions -> rotary, for every layer's
  /// attention. A stage that is not the first needs embeds.
  virtual void embed(UbatchState& state) const = 0;

  /// hidden -> hidden: norm, attention and residual. Writes this ubatch's rows of all parts into
  /// the cache at slot_mapping first, then reads those of each segment by its row of block_tables.
  virtual void attention(int layer, UbatchState& state, KvCache& cache) const = 0;

  /// hidden -> moe_input, router_logits, router_scores where the model has such, natural_ids
  /// (best first, of the best groups, ties by lower id), expert_ids, weights. Where `replay_ids`
  /// [T, k] int64 is defined, it becomes expert_ids in place of natural_ids, and the weights come
  /// from the model's own logits of these experts.
  virtual void route(int layer, UbatchState& state, const at::Tensor& replay_ids) const = 0;

  /// rows [R, H] grouped by local expert, of all experts of the rank or a group -> [R, H]. The
  /// exchange applies the routing's weights.
  virtual at::Tensor experts(int layer, const ExpertRows& rows) const = 0;

  /// moe_input -> shared_output.
  virtual void shared_experts(int layer, UbatchState& state) const = 0;

  /// hidden -> hidden: the dense layer's norm, feed-forward and residual.
  virtual void mlp(int layer, UbatchState& state) const = 0;

  /// hidden += combined (+ shared_output where there is one). combined [T, H].
  virtual void add_moe(int layer, UbatchState& state, const at::Tensor& combined) const = 0;

  /// hidden -> [T, H] after the final norm; in a stage that is not the last: hidden as it is.
  virtual at::Tensor output(const UbatchState& state) const = 0;

  /// normed [n, H] (rows of output) -> [n, vocabulary]. Only the last stage has logits.
  virtual at::Tensor logits(const at::Tensor& normed) const = 0;
};

}  // namespace dovetail
