// A schedule is the total order of all ops of a step. It is plain data: a policy makes it,
// schedule_check proves it, the runner walks it.
#pragma once

#include <string>
#include <vector>

#include "framework/plan/phase.hpp"

namespace dovetail {

/// Layer of ops that belong to no layer (embed, output).
inline constexpr int kNoLayer = -1;

/// Group of ops of all groups of experts: the ops of phases that have none, and all ops where the
/// experts are not cut.
inline constexpr int kNoGroup = -1;

/// One phase of one layer of one ubatch; where the experts are cut, of dispatch, experts and
/// combine the part of one group. An op may start when all ops in `waits` are done and the op
/// before it on the same lane is done. The position in Schedule::ops is the order in which ops are
/// enqueued, on every rank.
struct Op {
  int layer = kNoLayer;
  int ubatch = 0;
  Phase phase = Phase::embed;
  Lane lane = Lane::compute;
  std::vector<int>
      waits;  ///< indices into Schedule::ops, each smaller than this op's own index, ascending
  int group = kNoGroup;

  friend bool operator==(const Op&, const Op&) = default;
};

struct Schedule {
  std::string name;
  int num_ubatches = 1;
  std::vector<LayerShape> layers;
  std::vector<Op> ops;
  int num_groups = 1;  ///< into which the experts of each rank are cut; 1 = they are not

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// The group of the i-th of so many ops of a phase.
constexpr int group_at(int i, int num_groups) {
  return num_groups > 1 ? i : kNoGroup;
}

/// True for ops of the same place in a step.
inline bool is_same_op(const Op& a, const Op& b) {
  return a.layer == b.layer && a.ubatch == b.ubatch && a.phase == b.phase && a.group == b.group;
}

/// The op's place among the groups: 0 where experts are not cut.
constexpr int group_index(const Op& op) {
  return op.group == kNoGroup ? 0 : op.group;
}

/// "op 17 (experts, layer 2, ubatch 1)", with ", group 3" where experts are cut; for messages.
inline std::string describe_op(int index, const Op& op) {
  std::string text = "op " + std::to_string(index) + " (" + std::string(to_string(op.phase));
  if (op.layer != kNoLayer) {
    text += ", layer " + std::to_string(op.layer);
  }
  text += ", ubatch " + std::to_string(op.ubatch);
  return text + (op.group == kNoGroup ? "" : ", group " + std::to_string(op.group)) + ")";
}

}  // namespace dovetail
