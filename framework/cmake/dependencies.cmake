# All find_package calls. Headers of others are SYSTEM, so that our warnings do not apply to them.
find_package(Threads REQUIRED)
find_package(yaml-cpp REQUIRED)
if(NOT TARGET yaml-cpp::yaml-cpp) # yaml-cpp before 0.8 has no namespace
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
find_package(nlohmann_json REQUIRED)
set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)

# GoogleTest: the installed package, or the sources that Debian and Ubuntu put under /usr/src (one machine has no other).
find_package(GTest QUIET)
if(NOT GTest_FOUND)
  set(BUILD_GMOCK OFF)
  set(INSTALL_GTEST OFF)
  add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
endif()

if(NOT DOVETAIL_CORE_ONLY)
  find_package(CLI11 REQUIRED)
  set(MPI_CXX_SKIP_MPICXX ON) # the deprecated C++ bindings
  find_package(MPI REQUIRED COMPONENTS CXX)
  include(torch)
endif()

if(DOVETAIL_CUDA)
  find_package(CUDAToolkit 13.0 REQUIRED)
  # NCCL of the wheel where it is installed, so that only one is loaded; otherwise the toolkit's.
  find_path(DOVETAIL_NCCL_INCLUDE nccl.h HINTS "${DOVETAIL_TORCH}/../nvidia/nccl/include" ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
  find_file(DOVETAIL_NCCL_LIBRARY libnccl.so.2 HINTS "${DOVETAIL_TORCH}/../nvidia/nccl/lib" ${CUDAToolkit_LIBRARY_DIR}
            PATHS ${CUDAToolkit_LIBRARY_ROOT}/lib REQUIRED)
  add_library(dovetail_nccl SHARED IMPORTED)
  set_target_properties(dovetail_nccl PROPERTIES IMPORTED_LOCATION ${DOVETAIL_NCCL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES
                                                 ${DOVETAIL_NCCL_INCLUDE})
endif()
