// How a step is cut into pieces that are captured one by one while the exchange between them runs
// eagerly.
#pragma once

#include <vector>

#include "framework/base/types.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// The ops [first, end) of a schedule, captured as one graph.
struct GraphPiece {
  int first = 0;
  int end = 0;

  friend bool operator==(const GraphPiece&, const GraphPiece&) = default;
};

/// The pieces of the ops that `pass` runs, in order. A piece is a longest run of neighbours in the
/// schedule's order that are on the compute lane, belong to one ubatch and are no exchange; only
/// its first op waits for the other lane. An op between two others that is not captured (an
/// exchange, or one that the pass leaves out) ends a piece, because other lanes may wait for what
/// is before it and not for what is behind it.
std::vector<GraphPiece> graph_pieces(const Schedule& schedule, PassKind pass);

}  // namespace dovetail
