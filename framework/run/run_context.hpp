// What every stage of a run on one rank refers to. Views only: main owns the objects, and they
// outlive all stages.
#pragma once

#include "framework/config/experiment.hpp"
#include "framework/mpi/failure.hpp"
#include "framework/mpi/ranks.hpp"
#include "framework/mpi/signals.hpp"

namespace dovetail {

struct RunContext {
  Ranks ranks;
  const SignalWatch& signals;
  FailureChannel& failures;
  const Experiment& experiment;

  bool is_first_rank() const { return ranks.is_first(); }
};

}  // namespace dovetail
