// Builds a schedule op by op and fills in the waits, so that a policy states orders and lanes only.
#pragma once

#include <string>
#include <vector>

#include "framework/plan/dependency.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

class ScheduleBuilder {
 public:
  ScheduleBuilder(std::string name, const ModelShape& model, int num_ubatches, int num_groups = 1);

  /// Appends an op. It waits for each of its data dependencies that runs on the other lane; those
  /// on its own lane are met by the lane's order. A dispatch or combine also waits for the one
  /// before it where that is on the other lane, so that all ranks exchange in one order. Throws
  /// ContractError where a dependency has not been added before.
  void add(Phase phase, int layer, int ubatch, Lane lane = Lane::compute, int group = kNoGroup);

  /// The schedule; the builder is empty afterwards.
  Schedule finish();

 private:
  int& op_index(const LayerPhase& what, int ubatch);

  Schedule schedule_;
  std::vector<int> op_indices_;  ///< [layers + 1, kNumPhases, ubatches, groups], -1 = not added
  int last_exchange_ = -1;
};

}  // namespace dovetail
