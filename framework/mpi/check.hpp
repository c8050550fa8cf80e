// Checked calls of the MPI C API. Communicators of ours return errors (session.cpp sets the
// handler), so the checks are alive.
#pragma once

#include <string>

#include <mpi.h>

#include "framework/base/error.hpp"

namespace dovetail::detail {

[[noreturn]] inline void throw_mpi_error(int code, const char* call, const char* file, int line) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(std::string(file) + ":" + std::to_string(line) + ": " + call + ": " +
                 std::string(text, static_cast<std::size_t>(length)));
}

}  // namespace dovetail::detail

/// Throws RunError with MPI's own text when the call fails.
#define DOVETAIL_MPI(call)                                                               \
  do {                                                                                   \
    const int dovetail_mpi_code = (call);                                                \
    if (dovetail_mpi_code != MPI_SUCCESS) {                                              \
      ::dovetail::detail::throw_mpi_error(dovetail_mpi_code, #call, __FILE__, __LINE__); \
    }                                                                                    \
  } while (false)
