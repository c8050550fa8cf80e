// What a captured graph was made for: two steps with equal keys run the same graph.
#pragma once

#include <cstdint>
#include <string>

#include "framework/base/types.hpp"
#include "framework/config/choices.hpp"
#include "framework/plan/step_bounds.hpp"

namespace dovetail {

/// Values that all ranks agree on, so that all ranks have the same key for a step: of the schedule,
/// the agreed bounds and the experiment, never of one rank's batch.
struct GraphKey {
  GraphMode mode = GraphMode::full;
  std::uint64_t schedule_digest = 0;  ///< of the schedule that the step runs
  WorkPhase phase = WorkPhase::prefill;
  StepBounds bounds;
  InputKind inputs = InputKind::ids;
  DType dtype = DType::bfloat16;
  std::string exchange;       ///< name of the back end
  int comm_sms = 0;           ///< of the exchange, or kAllSms, and of the GEMMs' SM count
  std::uint32_t outputs = 0;  ///< bit i: the RecordedOutput with number i is written
  PassKind pass = PassKind::full;
  bool instrumented = false;  ///< with timing events around each op

  friend bool operator==(const GraphKey&, const GraphKey&) = default;
};

/// Hash of every field; the same on every machine.
std::uint64_t digest(const GraphKey& key);

/// One line for people: "full graph of prefill, 2 ubatches of 512+512 tokens, ...".
std::string describe(const GraphKey& key);

}  // namespace dovetail
