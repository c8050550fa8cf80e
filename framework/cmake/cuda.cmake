# CUDA, NCCL and the GPU part of LibTorch, for the preset cuda. Kernels are built for Hopper (compute capability 9.0).
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90)
endif()
find_program(CMAKE_CUDA_COMPILER nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin)
if(DOVETAIL_CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${DOVETAIL_CCACHE})
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared) # LibTorch loads the shared one: there must not be a second
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake 3.25 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
find_package(CUDAToolkit 13.0 REQUIRED)

# The NCCL that LibTorch loads: its wheel's where that is installed, otherwise the toolkit's. Exactly one may be loaded.
find_path(DOVETAIL_NCCL_INCLUDE nccl.h PATHS "${DOVETAIL_TORCH}/../nvidia/nccl/include" NO_DEFAULT_PATH)
find_file(DOVETAIL_NCCL_LIBRARY libnccl.so.2 PATHS "${DOVETAIL_TORCH}/../nvidia/nccl/lib" NO_DEFAULT_PATH)
find_path(DOVETAIL_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_file(DOVETAIL_NCCL_LIBRARY libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR} PATHS ${CUDAToolkit_LIBRARY_ROOT}/lib REQUIRED)
add_library(dovetail_nccl SHARED IMPORTED)
set_target_properties(dovetail_nccl PROPERTIES IMPORTED_LOCATION ${DOVETAIL_NCCL_LIBRARY} INTERFACE_SYSTEM_INCLUDE_DIRECTORIES
                                               ${DOVETAIL_NCCL_INCLUDE})
# A header that the toolkit or the system has, too, must not come first.
target_include_directories(dovetail_nccl SYSTEM BEFORE INTERFACE ${DOVETAIL_NCCL_INCLUDE})

# The GPU part of the wheel registers its operators when it is loaded, so it must not be dropped as unneeded. What it needs itself is
# found by its own search path, or beside the toolkit.
add_library(dovetail_torch_cuda INTERFACE)
target_link_libraries(
  dovetail_torch_cuda INTERFACE dovetail_torch CUDA::cudart dovetail_nccl "${torch_lib}/libc10_cuda.so" "-Wl,--no-as-needed"
                                "${torch_lib}/libtorch_cuda.so" "-Wl,--as-needed")
target_link_options(dovetail_torch_cuda INTERFACE "LINKER:--allow-shlib-undefined" "LINKER:-rpath,${wheel_cuda_lib}"
                    "LINKER:-rpath-link,${DOVETAIL_TORCH}/../nvidia/nccl/lib")
