// What GPU tests share: one GPU a rank, chosen by local rank; where there are too few, tests are
// skipped, never passed.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/host_place.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {

/// Number of usable GPUs; 0 without a driver.
int num_gpus();

/// Makes the GPU that is this rank's by host_place() the current device. Call it behind
/// DOVETAIL_REQUIRE_GPU.
void use_own_gpu();

}  // namespace dovetail::test

/// First line of each GPU test: skips it, on all ranks alike, where a rank would have no GPU of its
/// own.
#define DOVETAIL_REQUIRE_GPU()                                                     \
  do {                                                                             \
    if (::dovetail::test::num_gpus() < ::dovetail::test::host_place().num_ranks) { \
      GTEST_SKIP() << "needs one GPU a rank";                                      \
    }                                                                              \
    ::dovetail::test::use_own_gpu();                                               \
  } while (false)
