// What an MPI test may ask of the world it runs in. Served by mpi_main.cpp.
#pragma once

#include "framework/mpi/session.hpp"

namespace dovetail::test {

/// The session of this test process; lives as long as the tests run.
const MpiSession& session();

int world_rank();
int world_size();

}  // namespace dovetail::test
