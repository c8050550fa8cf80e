# Tests of how a job ends, under expect_end.py: the harness' own failures here, those of the failure channel below.

# add_end_test(NAME RANKS n TARGET t [LIMIT s] EXPECT <options of expect_end.py> ARGUMENTS <of the program>)
function(add_end_test name)
  cmake_parse_arguments(ARG "" "RANKS;TARGET;LIMIT" "EXPECT;ARGUMENTS" ${ARGN})
  if(NOT ARG_LIMIT)
    set(ARG_LIMIT 50)
  endif()
  add_test(NAME ${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/expect_end.py ${ARG_EXPECT} -- ${DOVETAIL_MPIRUN} -np ${ARG_RANKS}
                                $<TARGET_FILE:${ARG_TARGET}> ${ARG_ARGUMENTS})
  math(EXPR processors "${ARG_RANKS} + 1") # alone on two cores (tests/run.sh): they must end within seconds
  set_tests_properties(${name} PROPERTIES TIMEOUT 60 PROCESSORS ${processors} LABELS "mpi;np${ARG_RANKS}"
                                          ENVIRONMENT "${DOVETAIL_MPI_ENVIRONMENT};DOVETAIL_TEST_LIMIT_S=${ARG_LIMIT}")
endfunction()

add_executable(mpi_harness_broken harness_broken.cpp)
target_link_libraries(mpi_harness_broken PRIVATE dovetail_options dovetail_mpi_test_main)

function(add_broken_test name test)
  add_end_test(mpi_harness.${name} RANKS 2 TARGET mpi_harness_broken ${ARGN} ARGUMENTS --gtest_filter=Broken.${test})
endfunction()

add_broken_test(fails FailsOnLastRank EXPECT --exit 1 --count "^.rank 1. .*this rank fails" 1 --count "FAILED  . 1 test" 1)
add_broken_test(throws ThrowsOnLastRank EXPECT --exit 1 --count "^.rank 1. .*this rank throws" 1)
add_broken_test(hangs HangsOnLastRank LIMIT 5 EXPECT --exit 1 --count "rank 1.: .*hangs in Broken.HangsOnLastRank" 1)
add_broken_test(hangs_on_0 HangsOnRankZero LIMIT 5 EXPECT --exit 1 --count "rank 0.: .*hangs in Broken.HangsOnRankZero" 1)
add_broken_test(fails_while_others_hang FailsWhileTheOthersHang EXPECT --exit 1 --within 30 --count "^.*rank 1. .*this rank fails" 1)
add_broken_test(exits ExitsOnLastRank LIMIT 5 EXPECT --exit nonzero --within 30)
add_broken_test(stops StopsOnLastRank LIMIT 5 EXPECT --exit nonzero --within 30 --count "no report from ranks 1" 1)
add_broken_test(skips_alone SkipsOnLastRank EXPECT --exit 1 --count "rank 1. ranks disagree on skipping" 1 --count "ALL PASSED OR SKIPPED" 0)
add_broken_test(skips SkipsEverywhere EXPECT --exit 0 --count "ALL PASSED OR SKIPPED" 1)
# A failing test must also fail where no script looks on.
add_test(NAME mpi_harness.will_fail COMMAND ${DOVETAIL_MPIRUN} -np 2 $<TARGET_FILE:mpi_harness_broken> --gtest_filter=Broken.FailsOnLastRank)
set_tests_properties(mpi_harness.will_fail PROPERTIES WILL_FAIL ON TIMEOUT 60 PROCESSORS 2 LABELS "mpi;np2" ENVIRONMENT "${DOVETAIL_MPI_ENVIRONMENT}")

add_executable(mpi_failing_run failing_run.cpp)
target_link_libraries(mpi_failing_run PRIVATE dovetail_options dovetail_mpi)

# Every failure must end all ranks within 5 s of it.
function(add_failing_run_test fault)
  foreach(ranks 2 4)
    add_end_test(mpi_failure.${fault}.np${ranks} RANKS ${ranks} TARGET mpi_failing_run ARGUMENTS ${fault} EXPECT --within 5 ${ARGN}
                 --count "outside the run" 0)
  endforeach()
endfunction()

set(from_failure --from "failing now")
set(once --count "rank 1, ubatch 0, layer 3, phase experts: injected failure" 1)
add_failing_run_test(none --exit 0 --within 50)
add_failing_run_test(one_rank_throws ${from_failure} ${once} --exit 3 --count "flushed" 2..4 --count "has failed. this rank" 0)
add_failing_run_test(worker_is_mid_wait ${from_failure} ${once} --exit 3 --count "flushed" 2..4)
add_failing_run_test(two_ranks_throw ${from_failure} --exit 3 --count "injected" 1..2 --count "rank 0.*injected" 0..1 --count "rank 1.*injected" 0..1 --count "rank 2, " 0)
set(gone "is gone: killed, perhaps by the out-of-memory killer, or crashed")
add_failing_run_test(one_rank_is_killed ${from_failure} --exit nonzero --count "rank 0.: rank 1 on host .* ${gone}" 1 --count "${gone}" 1 --count "interrupted" 0)
add_failing_run_test(the_first_rank_is_killed ${from_failure} --exit nonzero --count "rank 1.: rank 0 on host .* ${gone}" 1 --count "${gone}" 1 --count "interrupted" 0)
add_failing_run_test(killed_while_peers_compute ${from_failure} --exit nonzero --count "rank 0.: rank 1 on host .* ${gone}" 1 --count "interrupted" 0)
add_failing_run_test(one_rank_exits ${from_failure} --exit nonzero --count "rank 0.: rank 1 on host .* ${gone}" 1)
add_failing_run_test(a_peer_is_stuck ${from_failure} --exit 3 --count "injected" 1 --count "rank 1.: flushed" 0)
add_failing_run_test(a_peer_is_stopped ${from_failure} --exit 3 --count "injected" 1)
add_failing_run_test(a_peer_is_gone_and_missed ${from_failure} --exit nonzero --count "rank 0.: rank 1 on host .* ${gone}" 1 --count "${gone}" 1)
add_failing_run_test(the_first_rank_is_gone_and_missed ${from_failure} --exit nonzero --count "rank 1.: rank 0 on host .* ${gone}" 1 --count "${gone}" 1)
add_failing_run_test(interrupted_in_its_report ${from_failure} --exit nonzero --count "injected failure" 1 --count "rank 1 does not answer" 1)
add_failing_run_test(a_peer_has_finished ${from_failure} --exit 3 --count "injected" 1)
add_failing_run_test(the_others_time_out ${from_failure} --exit 3 --count "not done within 1000 ms" 1..3)
add_failing_run_test(bad_input ${from_failure} --exit 2 --count "config.json:3:7: unknown key" 1)
add_failing_run_test(one_rank_is_interrupted ${from_failure} --exit 3 --count "rank 1 was interrupted by a signal" 1 --count "interrupted by SIGTERM" 0)
add_failing_run_test(interrupted_while_busy ${from_failure} --exit 143 --count "rank 1 was interrupted by a signal" 1)
# Signals to mpirun, which passes them on. Its own exit code after SIGTERM is 1.
add_failing_run_test(wait_for_signals --within 50 --signal "ready for signals" USR1 --exit 0 --count "flushed" 0)
add_end_test(mpi_failure.interrupted_mpirun RANKS 4 TARGET mpi_failing_run ARGUMENTS wait_for_signals EXPECT --signal "ready for signals" TERM
             --from "ready for signals" --within 5 --exit nonzero --count "interrupted" 1 --count "flushed" 4)

if(DOVETAIL_CORE_ONLY)
  return()
endif()

# Two replicas load a model: a failure that one has alone, and one that both know of.
add_executable(mpi_failing_load failing_load.cpp)
target_link_libraries(mpi_failing_load PRIVATE dovetail_run_test)
function(add_failing_load_test failure)
  add_end_test(load.${failure} RANKS 2 TARGET mpi_failing_load ARGUMENTS ${failure} EXPECT --from "failing now" --within 5 ${ARGN}
               --count "outside the run" 0)
endfunction()
add_failing_load_test(none --exit 0)
add_failing_load_test(one_replica_fails --exit 3 --count "no memory for layer 1" 1)
add_failing_load_test(file_cannot_be_read --exit 2 --count "weights.safetensors: first cannot be read" 1)
