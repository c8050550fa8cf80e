// The captured steps of a policy: found by what all ranks have agreed on, or captured on all ranks
// together.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "framework/plan/graph_cache.hpp"
#include "framework/step/cuda/frame_step.hpp"
#include "framework/step/cuda/step_runner.hpp"
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
  /// `exchange_kind` is resolved. All references outlive it.
  StepGraphs(const PolicyRunContext& context,
             const std::string& exchange_kind,
             Exchange& exchange,
             CudaStepRunner& runner);

  /// The mode in which steps are captured: the policy's, as far as the exchange allows.
  GraphMode mode() const { return mode_; }

  /// Why a pass over `step` runs eagerly, before anything is tried; none = it is to be replayed.
  EagerReason reason_to_run_eagerly(const StepPass& pass, const FrameStep& step) const;

  /// The captured pass, from the cache, or captured now after eager runs of it. A miss is one on
  /// all ranks, because keys, captures and evictions are agreed on; a capture is kept by all ranks
  /// or by none. Null where a rank has failed, which is said in its log; `facts` says what
  /// happened. Valid until the next call. Collective over the world.
  const GraphEntry* find_or_capture(const Schedule& schedule,
                                    const StepPass& pass,
                                    FrameStep& step,
                                    StepFacts& facts);

  /// SMs that the GEMMs of a step leave to the exchange beside them.
  int sms_of_comm(const Schedule& schedule) const;

  void clear();

  std::uint64_t digest() const { return cache_.digest(); }

  void count_replay() { cache_.count_replay(); }

  void count_eager(EagerReason reason) { cache_.count_eager(reason); }

  const GraphCounters& counters() const { return cache_.counters(); }

 private:
  GraphKey key(const Schedule& schedule, const StepPass& pass, const FrameStep& step) const;
  GraphEntry capture_on_all_ranks(const Schedule& schedule, const StepPass& pass, FrameStep& step);
  GraphEntry capture(const Schedule& schedule, const StepPass& pass, FrameStep& step);

  const PolicyRunContext& context_;
  const std::string exchange_kind_;
  const GraphMode mode_;
  Exchange& exchange_;
  CudaStepRunner& runner_;
  GraphCache<GraphEntry> cache_;
  GraphEntry one_shot_;  ///< of a pass that leaves something out
};

/// Graphs that a policy keeps: beyond it the least recently used one goes. And frames: beyond it
/// all frames and graphs go, and steps are captured again, which the record says of each.
inline constexpr std::size_t kMaxGraphs = 16;

}  // namespace dovetail
