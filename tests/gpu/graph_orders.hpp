// Holds a captured graph of a MarkerStep against the schedule that it was captured from.
#pragma once

#include <string>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/cuda/graph_shape.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail::test {

/// Which op comes before which by waits and lane order. A pass keeps these among the ops that it
/// runs.
Reachability schedule_orders(const Schedule& schedule);

/// Whether it is a kernel that does nothing but look at the clock (timer_look.hpp).
bool is_timer_look(const GraphNode& node);

/// Empty where so many kernels look at the clock, each of them with other kernels behind it only,
/// or before it only.
std::string error_of_looks(const GraphShape& shape, int wanted);

/// What is wrong with the full graph of a MarkerStep, apart from its looks at the clock, a sentence
/// each: an op with more or fewer kernels than it launches, an order of the schedule that the graph
/// lacks, or an order in the graph that the schedule does not ask for, which would forbid an
/// overlap.
std::vector<std::string> graph_errors(const Schedule& schedule,
                                      PassKind pass,
                                      const GraphShape& shape);

}  // namespace dovetail::test
