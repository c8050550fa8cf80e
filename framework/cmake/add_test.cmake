# Tests, one line each: add_host_test(name TIMEOUT s SOURCES ... LIBRARIES ...), add_mpi_test(name RANKS 1 2 4 TIMEOUT s SOURCES ... LIBRARIES ...).
# add_gpu_test(name RANKS 1 2 4 ...) as add_mpi_test, one GPU a rank: shows as skipped where there are fewer GPUs than ranks, and in a build
# without CUDA; with DOVETAIL_SHARE_GPU=1 in the environment ranks share the first. Labels: host, mpi (and np1, np2, np4), gpu. An MPI test that skips everything shows as skipped; host tests (but record_mount) have nothing to skip.

# Sources of tests run once and are compiled often. (Sanitizers choose by themselves.)
set(DOVETAIL_TEST_OPTIONS "")
if(NOT DOVETAIL_SANITIZE)
  set(DOVETAIL_TEST_OPTIONS -O1)
endif()

# precompile_test_headers(target LIBRARIES ... HEADERS ...): headers of others, which take a third of the time that sources of tests are compiled in.
# A folder that sets DOVETAIL_TEST_HEADERS to the target has its tests share them, compiled once, where whole builds are to be fast.
function(precompile_test_headers target)
  if(DOVETAIL_JOIN_SOURCES)
    cmake_parse_arguments(ARG "" "" "LIBRARIES;HEADERS" ${ARGN})
    file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${target}.cpp CONTENT "")
    add_library(${target} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/${target}.cpp)
    target_link_libraries(${target} PRIVATE dovetail_options ${ARG_LIBRARIES} GTest::gtest)
    target_compile_options(${target} PRIVATE ${DOVETAIL_TEST_OPTIONS})
    target_precompile_headers(${target} PRIVATE <gtest/gtest.h> <algorithm> <functional> <map> <memory> <optional> <string> <vector> ${ARG_HEADERS})
  endif()
endfunction()

function(use_precompiled_headers test)
  if(DOVETAIL_JOIN_SOURCES AND DOVETAIL_TEST_HEADERS)
    target_precompile_headers(${test} REUSE_FROM ${DOVETAIL_TEST_HEADERS})
    # GCC forgets that a precompiled header is a system's, where it takes concatenations of strings for errors.
    target_compile_options(${test} PRIVATE -Wno-error=restrict -Wno-error=array-bounds)
  endif()
endfunction()

# join_test_sources(list test sources...): where whole builds are to be fast, up to 8 tests are compiled as one, in half of the time. Their
# headers' own sources stay alone (tests/boundaries).
function(join_test_sources list test)
  set(sources ${ARGN})
  set(tests ${ARGN})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(LENGTH tests left)
  if(DOVETAIL_JOIN_SOURCES AND left GREATER 1)
    list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
    list(TRANSFORM tests PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    math(EXPR parts "(${left} + 7) / 8")
    set(begin 0)
    foreach(part RANGE 1 ${parts})
      math(EXPR count "(${left} + ${parts} - ${part}) / (${parts} - ${part} + 1)")
      list(SUBLIST tests ${begin} ${count} own)
      math(EXPR begin "${begin} + ${count}")
      math(EXPR left "${left} - ${count}")
      set(joined ${CMAKE_CURRENT_BINARY_DIR}/joined/${test}_${part}.cpp)
      add_custom_command(
        OUTPUT ${joined}
        COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_SOURCE_DIR} -DOUTPUT=${joined} "-DSOURCES=${own}" -P ${CMAKE_SOURCE_DIR}/framework/cmake/join_tests.cmake
        DEPENDS ${own} ${CMAKE_SOURCE_DIR}/framework/cmake/join_tests.cmake
        VERBATIM)
      list(APPEND sources ${joined})
    endforeach()
  endif()
  set(${list} ${sources} PARENT_SCOPE)
endfunction()

function(add_host_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  join_test_sources(sources ${name} ${ARG_SOURCES})
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE dovetail_options ${ARG_LIBRARIES} GTest::gtest_main)
  target_compile_options(test_${name} PRIVATE ${DOVETAIL_TEST_OPTIONS})
  target_compile_definitions(test_${name} PRIVATE DOVETAIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  use_precompiled_headers(test_${name})
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "host;${ARG_LABELS}")
endfunction()

# Launch line and environment of a test under mpirun, in one place.
set(DOVETAIL_MPIRUN ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none)
set(DOVETAIL_MPI_ENVIRONMENT GTEST_COLOR=no OMP_NUM_THREADS=1)
if(DOVETAIL_SANITIZE STREQUAL "thread")
  # The MPI library is built without it: what it does is not judged. A race ends its rank at once, as a job that is aborted tells of none at its end.
  list(APPEND DOVETAIL_MPI_ENVIRONMENT TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1)
endif()
# And that of every rank: a line of env.sh sets NAME=value, or NAME=${NAME:-value} where the user may choose.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/launch/env.sh)
file(STRINGS ${CMAKE_SOURCE_DIR}/launch/env.sh lines REGEX "^export ")
foreach(line ${lines})
  string(REGEX REPLACE "\\$\\{[A-Z_]+:-([^}]*)\\}" "\\1" line "${line}")
  string(REGEX REPLACE "^export " "" line "${line}")
  separate_arguments(line)
  list(APPEND DOVETAIL_MPI_ENVIRONMENT ${line})
endforeach()

function(add_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;LAUNCHER" "RANKS;SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  join_test_sources(sources ${name} ${ARG_SOURCES})
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE dovetail_options ${ARG_LIBRARIES} dovetail_mpi_test_main)
  target_compile_options(test_${name} PRIVATE ${DOVETAIL_TEST_OPTIONS})
  target_compile_definitions(test_${name} PRIVATE DOVETAIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  use_precompiled_headers(test_${name})
  math(EXPR limit "${ARG_TIMEOUT} - 10") # the harness names what hangs; CTest's limit is the last resort
  foreach(ranks ${ARG_RANKS})
    math(EXPR processors "(${ranks} + 1) / 2") # ranks wait for each other most of the time
    set(test ${name}.np${ranks})
    add_test(NAME ${test} COMMAND ${DOVETAIL_MPIRUN} -np ${ranks} ${ARG_LAUNCHER} $<TARGET_FILE:test_${name}>)
    set_tests_properties(
      ${test}
      PROPERTIES TIMEOUT ${ARG_TIMEOUT} PROCESSORS ${processors} LABELS "mpi;np${ranks};${ARG_LABELS}"
                 ENVIRONMENT "${DOVETAIL_MPI_ENVIRONMENT};DOVETAIL_TEST_LIMIT_S=${limit}"
                 SKIP_REGULAR_EXPRESSION "ALL PASSED OR SKIPPED")
  endforeach()
endfunction()

set(DOVETAIL_OWN_HOST ${CMAKE_SOURCE_DIR}/tests/support/own_host.sh) # ranks that are to share a GPU
if(DOVETAIL_CUDA)
  add_custom_target(gpu_tests) # builds the GPU tests and nothing else
endif()

function(add_gpu_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "RANKS;SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(DOVETAIL_CUDA)
    add_mpi_test(${ARGV} LABELS gpu LAUNCHER ${DOVETAIL_OWN_HOST})
    add_dependencies(gpu_tests test_${name})
    foreach(ranks ${ARG_RANKS})
      set_property(TEST ${name}.np${ranks} APPEND PROPERTY ENVIRONMENT DOVETAIL_HOST_NAME=$<TARGET_FILE:dovetail_host_name>)
      set_tests_properties(${name}.np${ranks} PROPERTIES RESOURCE_LOCK gpus LABELS "gpu;np${ranks}")
    endforeach()
    return()
  endif()
  foreach(ranks ${ARG_RANKS})
    add_test(NAME ${name}.np${ranks} COMMAND ${CMAKE_COMMAND} -E echo "ALL PASSED OR SKIPPED: built without CUDA")
    set_tests_properties(${name}.np${ranks} PROPERTIES LABELS "gpu;np${ranks}" SKIP_REGULAR_EXPRESSION "ALL PASSED OR SKIPPED")
  endforeach()
endfunction()
