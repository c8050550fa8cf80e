# Tests, one line each: add_host_test(name TIMEOUT s SOURCES ... LIBRARIES ...), add_mpi_test(name RANKS 1 2 4 TIMEOUT s SOURCES ... LIBRARIES ...).
# Labels: host, mpi (and np1, np2, np4). An MPI test that skips everything shows as skipped; host tests have nothing to skip.

function(add_host_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE dovetail_options ${ARG_LIBRARIES} GTest::gtest_main)
  target_compile_definitions(test_${name} PRIVATE DOVETAIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "host;${ARG_LABELS}")
endfunction()

# Launch line and environment of a test under mpirun, in one place.
set(DOVETAIL_MPIRUN ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none)
set(DOVETAIL_MPI_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
                             OMPI_MCA_btl_vader_single_copy_mechanism=none GTEST_COLOR=no OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive)

function(add_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "RANKS;SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE dovetail_options ${ARG_LIBRARIES} dovetail_mpi_test_main)
  target_compile_definitions(test_${name} PRIVATE DOVETAIL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  math(EXPR limit "${ARG_TIMEOUT} - 10") # the harness names what hangs; CTest's limit is the last resort
  foreach(ranks ${ARG_RANKS})
    set(test ${name}.np${ranks})
    add_test(NAME ${test} COMMAND ${DOVETAIL_MPIRUN} -np ${ranks} $<TARGET_FILE:test_${name}>)
    set_tests_properties(
      ${test}
      PROPERTIES TIMEOUT ${ARG_TIMEOUT} PROCESSORS ${ranks} LABELS "mpi;np${ranks};${ARG_LABELS}"
                 ENVIRONMENT "${DOVETAIL_MPI_ENVIRONMENT};DOVETAIL_TEST_LIMIT_S=${limit}"
                 SKIP_REGULAR_EXPRESSION "ALL PASSED OR SKIPPED")
  endforeach()
endfunction()
