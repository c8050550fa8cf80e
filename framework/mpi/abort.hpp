// The last resort: ends all ranks at once.
#pragma once

namespace dovetail {

/// Ends every rank of the world, and mpirun with `exit_code`. Any thread, never returns: where
/// MPI_Abort itself hangs or MPI is not up, the process ends within a second with the same code.
[[noreturn]] void abort_world(int exit_code) noexcept;

}  // namespace dovetail
