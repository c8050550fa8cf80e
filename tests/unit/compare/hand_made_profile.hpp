// A profiled step whose metrics are counted by hand.
#pragma once

#include "framework/compare/metrics.hpp"

namespace dovetail {

/// Two ranks, five ops: attention u0, dispatch u0, attention u1, dispatch u1, experts u0. All
/// expected numbers below are counted out by hand from these times.
inline StepProfile hand_made() {
  StepProfile profile;
  profile.is_exchange = {false, true, false, true, false};
  RankProfile rank;
  rank.step = {0, 100};
  rank.ops = {{2, 20}, {22, 40}, {24, 44}, {46, 60}, {50, 90}};
  rank.ops_compute_only = {{1000, 1015}, kNotRun, {1015, 1031}, kNotRun, {1031, 1071}};
  rank.ops_comm_only = {kNotRun, {2000, 2012}, kNotRun, {2012, 2024}, kNotRun};
  rank.enqueued_ns = {1, 21, 23, 45, 47};
  rank.hand_off_wait_ns = {0, 1, 1, 1, 1};
  profile.ranks = {rank, rank};
  profile.ranks[1].ops[1] = {30, 42};
  profile.ranks[1].ops_comm_only[1] = {2004, 2012};
  return profile;
}

}  // namespace dovetail
