# All find_package calls. Headers of others are SYSTEM, so that our warnings do not apply to them.
if(DEFINED ENV{DOVETAIL_PREFIX}) # what launch/setup.sh has not installed
  list(PREPEND CMAKE_PREFIX_PATH "$ENV{DOVETAIL_PREFIX}")
endif()
find_package(Threads REQUIRED)
find_package(yaml-cpp REQUIRED)
if(NOT TARGET yaml-cpp::yaml-cpp) # yaml-cpp before 0.8 has no namespace
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
find_package(nlohmann_json REQUIRED)
set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)

# GoogleTest: the installed package, or the sources that Debian and Ubuntu put under src of the prefix or of /usr (one machine has no other).
find_package(GTest QUIET)
if(NOT GTest_FOUND)
  set(BUILD_GMOCK OFF)
  set(INSTALL_GTEST OFF)
  find_path(googletest_sources googletest/src/gtest-all.cc HINTS $ENV{DOVETAIL_PREFIX}/src/googletest PATHS /usr/src/googletest REQUIRED NO_DEFAULT_PATH)
  add_subdirectory(${googletest_sources} ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
endif()

if(DOVETAIL_WITH_RANKS)
  set(MPI_CXX_SKIP_MPICXX ON) # the deprecated C++ bindings
  find_package(MPI REQUIRED COMPONENTS CXX)
endif()
if(NOT DOVETAIL_CORE_ONLY)
  find_package(CLI11 REQUIRED)
  include(torch)
endif()

if(DOVETAIL_CUDA)
  include(cuda)
endif()
