// The captured steps of a policy: found by what all ranks have agreed on, or captured on all ranks
// together.
#pragma once

#include <cstdint>
#include <memory>

#include "framework/plan/graph_cache.hpp"
#include "framework/step/cuda/step_runner.hpp"
#include "framework/step/model_step.hpp"
#include "framework/step/padded_batch.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {

/// A captured step, and what it sends each time that it is replayed.
struct GraphEntry {
  std::unique_ptr<CapturedStep> step;
  Traffic traffic;
};

/// One a policy and rank. It dies before the runner, the exchange and the communicators. Calls from
/// the main thread, on all ranks alike.
class StepGraphs {
 public:
  /// All references outlive it.
  StepGraphs(const StepSetup& setup, Exchange& exchange, ModelStep& body, CudaStepRunner& runner);

  /// The mode in which steps are captured: the policy's, as far as the exchange allows.
  GraphMode mode() const { return setup_.resolved.graph; }

  /// Why a pass over `batch` runs eagerly, before anything is tried; none = it is to be replayed.
  EagerReason reason_to_run_eagerly(const StepPass& pass, const PaddedBatch& batch) const;

  struct Found {
    const GraphEntry* entry = nullptr;  ///< null where a rank has failed to capture, which is said
                                        ///< in its log; valid until the next call
    bool captured_now = false;
    bool has_run = false;  ///< the step was run eagerly before the attempt of a capture
  };

  /// The captured pass, from the cache, or captured now after eager runs of it. A miss is one on
  /// all ranks, because keys, captures and evictions are agreed on; a capture is kept by all ranks
  /// or by none. Collective over the world.
  Found find_or_capture(const AgreedStep& agreed, const StepPass& pass, PaddedBatch& batch);

  /// Makes exchange and body ready for a pass over what the batch holds.
  void begin_step(const AgreedStep& agreed, PaddedBatch& batch, const StepPass& pass);

  /// SMs that the GEMMs of a step leave to the exchange beside them; none with `all_sms`.
  int sms_left_to_exchange(const AgreedStep& agreed, const StepPass& pass) const;

  void clear();

  std::uint64_t digest() const { return cache_.digest(); }

  void count_replay() { cache_.count_replay(); }

  void count_eager(EagerReason reason) { cache_.count_eager(reason); }

  const GraphCounters& counters() const { return cache_.counters(); }

 private:
  GraphKey key(const AgreedStep& agreed, const StepPass& pass, const PaddedBatch& batch) const;
  GraphEntry capture_on_all_ranks(const AgreedStep& agreed,
                                  const StepPass& pass,
                                  PaddedBatch& batch);
  GraphEntry capture(const AgreedStep& agreed, const StepPass& pass, PaddedBatch& batch);

  const StepSetup& setup_;
  Exchange& exchange_;
  ModelStep& body_;
  CudaStepRunner& runner_;
  GraphCache<GraphEntry> cache_;
  GraphEntry one_shot_;  ///< of a pass that leaves something out
};

}  // namespace dovetail
