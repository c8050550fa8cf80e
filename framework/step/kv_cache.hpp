// A rank's KV cache: made, poisoned, and filled with a random context.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "framework/plan/kv_pages.hpp"
#include "framework/plan/workload.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// On the CPU or a GPU. Filled with NaN, so that a slot that is read before it is written is seen.
KvCache make_kv_cache(const KvPages& pages,
                      const ModelDims& dims,
                      int num_layers,
                      at::Device device);

/// Writes NaN to all parts of these slots (int64, on the cache's device), in all layers.
void poison_slots(KvCache& cache, const at::Tensor& slots);

/// Fills the context of every request of `first_step` (positions [0, context_length)) with seeded
/// values, uniform with mean 0 and standard deviation 1. A value depends on nothing but
/// seed, first_layer + layer, part, request id, position, head and element, so it is the same on
/// every grid, for every page size, in every stage and on every device. On a GPU it is enqueued on
/// the current stream.
void fill_context_random(KvCache& cache,
                         const StepWorkload& first_step,
                         const KvPages& pages,
                         const ModelDims& dims,
                         std::uint64_t seed);

}  // namespace dovetail
