// Schedules for tests: the policies over mixes of layers, and random legal ones.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "framework/plan/schedule.hpp"

namespace dovetail::testing {

inline constexpr LayerShape kDense{false, false};
inline constexpr LayerShape kMoe{true, false};
inline constexpr LayerShape kShared{true, true};

/// A seed that differs from run to run; printed so that a failure can be repeated
/// (DOVETAIL_TEST_SEED).
std::uint64_t fresh_seed();

/// No layer, every single kind, and mixes of them.
std::vector<std::vector<LayerShape>> layer_mixes();

/// Every policy with a schedule of its own, with every number of ubatches and some of the numbers
/// of groups that it allows, over a model of these layers.
std::vector<Schedule> all_policy_schedules(const std::vector<LayerShape>& layers);

/// A legal schedule in random order: 1 to 8 ubatches, 1 to 3 groups, 0 to 3 layers, exchange ops on
/// either or both lanes, with the waits that are needed and some that are not.
Schedule random_schedule(std::mt19937_64& random);

/// A random schedule without any wait that it can do without: two of its ops may be ordered only
/// through a third one.
Schedule random_lean_schedule(std::mt19937_64& random);

}  // namespace dovetail::testing
