#include "tests/gpu/graph_orders.hpp"

#include <array>
#include <utility>

#include "tests/gpu/marker_step.hpp"

namespace dovetail::test {

Reachability schedule_orders(const Schedule& schedule) {
  std::vector<std::pair<int, int>> edges;
  std::array<int, 2> last = {-1, -1};
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    const int index = static_cast<int>(i);
    int& before_it = last[static_cast<std::size_t>(op.lane)];
    if (before_it >= 0) {
      edges.emplace_back(before_it, index);
    }
    before_it = index;
    for (const int wait : op.waits) {
      edges.emplace_back(wait, index);
    }
  }
  return {static_cast<int>(schedule.ops.size()), edges};
}

bool is_timer_look(const GraphNode& node) {
  return node.type == cudaGraphNodeTypeKernel &&
         node.function.find("timer_look") != std::string::npos;
}

std::string error_of_looks(const GraphShape& shape, int wanted) {
  const auto reach = shape.reachability();
  std::vector<int> looks;
  for (std::size_t node = 0; node < shape.nodes.size(); ++node) {
    if (is_timer_look(shape.nodes[node])) {
      looks.push_back(static_cast<int>(node));
    }
  }
  if (static_cast<int>(looks.size()) != wanted) {
    return std::to_string(looks.size()) + " kernels that only look at the clock";
  }
  for (const int look : looks) {
    bool has_before = false;
    bool has_behind = false;
    for (std::size_t node = 0; node < shape.nodes.size(); ++node) {
      if (shape.nodes[node].type == cudaGraphNodeTypeKernel && static_cast<int>(node) != look) {
        has_before = has_before || reach.reaches(static_cast<int>(node), look);
        has_behind = has_behind || reach.reaches(look, static_cast<int>(node));
      }
    }
    if (has_before == has_behind) {
      return "a look at the clock amid the step";
    }
  }
  return "";
}

std::vector<std::string> graph_errors(const Schedule& schedule,
                                      PassKind pass,
                                      const GraphShape& shape) {
  std::vector<std::string> errors;
  const auto& ops = schedule.ops;
  std::vector<std::vector<int>> nodes_of(ops.size());
  for (std::size_t node = 0; node < shape.nodes.size(); ++node) {
    if (shape.nodes[node].type != cudaGraphNodeTypeKernel) {
      continue;
    }
    if (is_timer_look(shape.nodes[node])) {
      continue;
    }
    if (shape.nodes[node].function.find("marker") == std::string::npos) {
      errors.push_back("a kernel that is no marker: '" + shape.nodes[node].function + "'");
      continue;
    }
    const auto op = static_cast<std::size_t>(first_kernel_argument(shape.nodes[node]));
    if (op >= ops.size()) {
      errors.push_back("a marker of op " + std::to_string(op));
      continue;
    }
    nodes_of[op].push_back(static_cast<int>(node));
  }
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const int wanted = runs_in(pass, ops[i].phase) ? MarkerStep::num_kernels(ops[i]) : 0;
    if (static_cast<int>(nodes_of[i].size()) != wanted) {
      errors.push_back(describe_op(static_cast<int>(i), ops[i]) + " has " +
                       std::to_string(nodes_of[i].size()) + " kernels, wanted " +
                       std::to_string(wanted));
    }
  }
  const auto wanted = schedule_orders(schedule);
  const auto found = shape.reachability();
  for (std::size_t i = 0; i < ops.size(); ++i) {
    for (std::size_t j = 0; j < ops.size(); ++j) {
      const bool ordered = wanted.reaches(static_cast<int>(i), static_cast<int>(j));
      for (const int from : nodes_of[i]) {
        for (const int to : nodes_of[j]) {
          if (i != j && found.reaches(from, to) != ordered) {
            errors.push_back(describe_op(static_cast<int>(j), ops[j]) +
                             (ordered ? " does not wait for " : " waits for ") +
                             describe_op(static_cast<int>(i), ops[i]));
          }
        }
      }
    }
  }
  return errors;
}

}  // namespace dovetail::test
