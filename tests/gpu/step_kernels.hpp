// The kernels of a captured step, by the op that launched them, held against the schedule.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "framework/cuda/graph_shape.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/step/cuda/captured_step.hpp"

namespace dovetail::test {

/// Stands before a body and notes which nodes each op adds to the graph that is being captured.
/// Adds nothing itself. References outlive it.
class NodeWatch final : public StepBody {
 public:
  NodeWatch(const Schedule& schedule, StepBody& body);

  /// Called ahead of each op; may be empty, may throw.
  std::function<void(const Op&)> before;

  /// Ahead of a capture.
  void forget();

  void run(const Op& op) override;

  /// [ops]: kernels of the last capture. (Events may be taken out of a graph again.)
  const std::vector<std::vector<cudaGraphNode_t>>& kernels() const { return kernels_; }

 private:
  void take_new_nodes(std::size_t index);

  StepBody& body_;
  std::map<std::tuple<int, int, int, Phase>, std::size_t> indices_;
  std::set<cudaGraphNode_t> seen_;
  std::vector<std::vector<cudaGraphNode_t>> kernels_;
};

struct StepKernels {
  GraphShape shape;
  std::vector<std::vector<int>> of_op;  ///< [ops]: indices into shape.nodes
  int num_kernels = 0;                  ///< of the whole graph

  /// [ops]: mangled names in alphabetical order.
  std::vector<std::vector<std::string>> names() const;
};

/// Of a full graph whose capture `watch` has seen. ContractError where the graph lacks a
/// kernel that was seen.
StepKernels kernels_of(const CapturedStep& step, const NodeWatch& watch);

/// What is wrong with the graph of a whole step, a sentence each: a kernel that no op has launched;
/// an exchange op without kernels of the wire (NCCL's, or the one of `symmetric`), or with another
/// number of them than the others (without peers: with any); another op with one, or without any
/// kernel; an order of the schedule that the kernels of two ops lack; an order that the schedule
/// does not ask for, which would forbid an overlap.
std::vector<std::string> structure_errors(const Schedule& schedule,
                                          const StepKernels& kernels,
                                          bool has_peers);

/// Pairs of the graph's kernels of which neither comes before the other; with `wire_only` of those
/// of the wire.
int num_unordered_pairs(const StepKernels& kernels, bool wire_only);

/// Kernels of ops that are no exchange with no path to or from any kernel of the wire of `op`.
int kernels_beside(const Schedule& schedule, const StepKernels& kernels, std::size_t op);

/// The first few.
std::string some_of(const std::vector<std::string>& errors);

}  // namespace dovetail::test
