# LibTorch from the wheel as one imported target of our own, dovetail_torch. The wheel's CMake package refuses to configure where no CUDA
# toolkit is installed, and changes global flags; the host build needs neither: c10 and torch_cpu load only cudart and cupti.
if(NOT DOVETAIL_TORCH)
  if(DEFINED ENV{DOVETAIL_TORCH})
    set(torch_folder "$ENV{DOVETAIL_TORCH}")
  else()
    if(DEFINED ENV{XDG_CACHE_HOME})
      set(cache_folder "$ENV{XDG_CACHE_HOME}")
    else()
      set(cache_folder "$ENV{HOME}/.cache")
    endif()
    file(GLOB torch_folder "${cache_folder}/dovetail/venv/lib/python3*/site-packages/torch")
    if(NOT torch_folder)
      execute_process(COMMAND python3 -c "import torch, os; print(os.path.dirname(torch.__file__))"
                      OUTPUT_VARIABLE torch_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
  endif()
  set(DOVETAIL_TORCH "${torch_folder}" CACHE PATH "The torch package folder (site-packages/torch)" FORCE)
endif()
if(NOT EXISTS "${DOVETAIL_TORCH}/include/ATen/ATen.h")
  message(FATAL_ERROR "No LibTorch in DOVETAIL_TORCH='${DOVETAIL_TORCH}'. Run launch/setup.sh, or point DOVETAIL_TORCH at site-packages/torch.")
endif()
file(STRINGS "${DOVETAIL_TORCH}/version.py" torch_version_line REGEX "^__version__")
string(REGEX MATCH "[0-9][^']*" DOVETAIL_TORCH_VERSION "${torch_version_line}")
if(NOT DOVETAIL_TORCH_VERSION STREQUAL "2.11.0+cu130")
  message(FATAL_ERROR "Dovetail is built against torch 2.11.0+cu130; ${DOVETAIL_TORCH} holds ${DOVETAIL_TORCH_VERSION}")
endif()

add_library(dovetail_torch INTERFACE)
target_include_directories(
  dovetail_torch SYSTEM INTERFACE "${DOVETAIL_TORCH}/include"
                                  "${DOVETAIL_TORCH}/include/torch/csrc/api/include")
set(torch_lib "${DOVETAIL_TORCH}/lib")
set(wheel_cuda_lib "${DOVETAIL_TORCH}/../nvidia/cu13/lib")
target_link_libraries(dovetail_torch INTERFACE "${torch_lib}/libc10.so" "${torch_lib}/libtorch_cpu.so")
target_link_options(dovetail_torch INTERFACE "LINKER:-rpath,${torch_lib}" "LINKER:-rpath-link,${wheel_cuda_lib}")

# LibTorch loads the system's libstdc++.so.6. A compiler that has only a static one would put a second copy into the program, whose locales
# the first one frees when the process ends.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libstdc++.so OUTPUT_VARIABLE shared_libstdcxx OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT IS_ABSOLUTE "${shared_libstdcxx}")
  find_file(DOVETAIL_LIBSTDCXX libstdc++.so.6 PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib/x86_64-linux-gnu /usr/lib64 REQUIRED)
  target_link_libraries(dovetail_torch INTERFACE "${DOVETAIL_LIBSTDCXX}")
endif()
