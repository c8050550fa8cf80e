// Schedules for people: a text table and a graph for graphviz.
#pragma once

#include <string>

#include "framework/plan/schedule.hpp"

namespace dovetail {

/// A line an op, in the order in which ops are enqueued: index, ubatch, layer, phase, a column for
/// each lane, waits; "experts g2" is of group 2; a line between ops shows where the baton passes to
/// another ubatch.
std::string schedule_to_table(const Schedule& schedule);

/// A digraph for `dot -Tsvg`: a cluster a lane, a colour a ubatch, solid edges for the order in a
/// lane, dashed edges for waits.
std::string schedule_to_dot(const Schedule& schedule);

}  // namespace dovetail
