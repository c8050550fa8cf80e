// The order in which ranks that share too few cores start; early_start.cpp has the part of those
// that wait.
#pragma once

#include "framework/mpi/start_order.hpp"

namespace dovetail {

/// Lets the ranks of this host load their libraries: the first rank makes one when it has refused
/// nothing, and keeps it until all are in MPI.
class GoAhead {
 public:
  GoAhead();
  ~GoAhead();
  GoAhead(const GoAhead&) = delete;
  GoAhead& operator=(const GoAhead&) = delete;
  GoAhead(GoAhead&&) = delete;
  GoAhead& operator=(GoAhead&&) = delete;

 private:
  GoAheadFile file_;
};

}  // namespace dovetail
