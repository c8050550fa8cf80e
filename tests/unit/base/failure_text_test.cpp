// Exceptions of libraries as one line; memory that ran out, with what was done.
#include "framework/base/failure_text.hpp"

#include <new>
#include <stdexcept>
#include <system_error>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

TEST(FailureText, SaysWhatTheExceptionSays) {
  EXPECT_EQ(failure_text(std::runtime_error("x.h5: no space\nleft")), "x.h5: no space\nleft");
  EXPECT_EQ(failure_text(std::runtime_error("sizes differ\nException raised from check at a.cpp:7 "
                                            "(most recent call first):\nframe #0: f() + 0x1")),
            "sizes differ");
}

TEST(FailureText, NamesTheStageWhereMemoryRanOut) {
  const std::runtime_error of_torch(
      "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
      "you tried to allocate 640 bytes. Error code 12 (Cannot allocate memory)\nException raised "
      "from posix_memalign at alloc_cpu.cpp:124 (most recent call first):\nframe #0: f");
  const std::runtime_error of_cuda("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has");
  EXPECT_EQ(failure_text(std::bad_alloc()), "out of memory");
  EXPECT_EQ(failure_text(of_torch), "out of memory: you tried to allocate 640 bytes");
  set_stage("loading the model");
  EXPECT_EQ(failure_text(std::bad_alloc()), "out of memory while loading the model");
  EXPECT_EQ(failure_text(of_torch),
            "out of memory while loading the model: you tried to allocate 640 bytes");
  EXPECT_EQ(failure_text(of_cuda),
            "out of memory while loading the model: Tried to allocate 20.00 MiB. GPU 0 has");
  EXPECT_EQ(failure_text(std::length_error("vector")), "vector");
  set_stage("");
}

TEST(FailureText, AThreadThatCannotBeMadeIsNamed) {
  set_stage("starting");
  const std::system_error refusal(std::make_error_code(std::errc::resource_unavailable_try_again));
  EXPECT_EQ(failure_text(refusal),
            "a thread cannot be made while starting: Resource temporarily unavailable; what may be "
            "used up: processes (ulimit -u, a container's pids.max), memory (ulimit -v)");
  set_stage("");
  const std::system_error other(std::make_error_code(std::errc::permission_denied));
  EXPECT_EQ(failure_text(other), "Permission denied");
}

}  // namespace
}  // namespace dovetail
