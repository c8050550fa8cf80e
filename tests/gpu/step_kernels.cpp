#include "tests/gpu/step_kernels.hpp"

#include <algorithm>
#include <iterator>

#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "tests/gpu/graph_orders.hpp"

namespace dovetail::test {
namespace {

/// The graph that the stream is captured into; null where it is not.
cudaGraph_t graph_in_capture(cudaStream_t stream) {
  auto status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t* dependencies = nullptr;
  const cudaGraphEdgeData* edges = nullptr;
  std::size_t num_dependencies = 0;
  check_cuda(cudaStreamGetCaptureInfo(
                 stream, &status, &id, &graph, &dependencies, &edges, &num_dependencies),
             "look at a capture");
  return status == cudaStreamCaptureStatusActive ? graph : nullptr;
}

bool is_of_wire(const GraphNode& node) {
  return node.function.find("nccl") != std::string::npos ||
         node.function.find("push_kernel") != std::string::npos;
}

bool are_ordered(const Reachability& orders, int a, int b) {
  return orders.reaches(a, b) || orders.reaches(b, a);
}

/// What is wrong with the kernels of an op by themselves; `per_exchange` is the number of the first
/// exchange op, -1 before it.
std::string error_of_op(const Op& op,
                        const std::vector<int>& kernels,
                        const GraphShape& shape,
                        bool has_peers,
                        int& per_exchange) {
  const auto count = static_cast<int>(kernels.size());
  const auto of_wire = static_cast<int>(std::count_if(kernels.begin(), kernels.end(), [&](int k) {
    return is_of_wire(shape.nodes[static_cast<std::size_t>(k)]);
  }));
  const std::string found =
      " has " + std::to_string(count) + " kernels, " + std::to_string(of_wire) + " of the wire" +
      (count > 0 ? ", the first is '" +
                       shape.nodes[static_cast<std::size_t>(kernels.front())].function + "'"
                 : "");
  if (!is_exchange(op.phase)) {
    return count == 0 || of_wire > 0 ? found : "";
  }
  if (!has_peers) {
    return count > 0 ? found + "; there are no peers" : "";
  }
  per_exchange = per_exchange < 0 ? of_wire : per_exchange;
  if (of_wire == 0 || of_wire != count || of_wire != per_exchange) {
    return found + "; the first exchange op has " + std::to_string(per_exchange);
  }
  return "";
}

/// What is wrong between the kernels of two ops; `ordered` = those of the first come before those
/// of the second.
std::string error_of_pair(const std::vector<int>& first,
                          const std::vector<int>& second,
                          const Reachability& found,
                          bool ordered) {
  for (const int a : first) {
    for (const int b : second) {
      if (found.reaches(b, a)) {
        return " comes before ";
      }
      if (found.reaches(a, b) != ordered) {
        return ordered ? " does not wait for " : " waits, against the schedule, for ";
      }
    }
  }
  return "";
}

}  // namespace

NodeWatch::NodeWatch(const Schedule& schedule, StepBody& body)
    : body_(body), kernels_(schedule.ops.size()) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    indices_[{op.layer, op.ubatch, op.group, op.phase}] = i;
  }
}

void NodeWatch::forget() {
  seen_.clear();
  kernels_.assign(kernels_.size(), {});
}

void NodeWatch::run(const Op& op) {
  if (before) {
    before(op);
  }
  body_.run(op);
  take_new_nodes(indices_.at({op.layer, op.ubatch, op.group, op.phase}));
}

void NodeWatch::take_new_nodes(std::size_t index) {
  const cudaGraph_t graph = graph_in_capture(c10::cuda::getCurrentCUDAStream());
  if (graph == nullptr) {
    return;
  }
  std::size_t count = 0;
  check_cuda(cudaGraphGetNodes(graph, nullptr, &count), "count the nodes of a capture");
  std::vector<cudaGraphNode_t> nodes(count);
  if (count > 0) {
    check_cuda(cudaGraphGetNodes(graph, nodes.data(), &count), "list the nodes of a capture");
  }
  for (const auto node : nodes) {
    if (!seen_.insert(node).second) {
      continue;
    }
    cudaGraphNodeType type{};
    check_cuda(cudaGraphNodeGetType(node, &type), "ask for the type of a node");
    if (type == cudaGraphNodeTypeKernel) {
      kernels_[index].push_back(node);  // and, of the first op, a look at the clock ahead of it
    }
  }
}

std::vector<std::vector<std::string>> StepKernels::names() const {
  std::vector<std::vector<std::string>> all;
  for (const auto& kernels : of_op) {
    auto& names = all.emplace_back();
    for (const int kernel : kernels) {
      names.push_back(shape.nodes[static_cast<std::size_t>(kernel)].function);
    }
    std::sort(names.begin(), names.end());
  }
  return all;
}

StepKernels kernels_of(const CapturedStep& step, const NodeWatch& watch) {
  DOVETAIL_CHECK_EQ(step.num_pieces(), 1);
  StepKernels kernels;
  kernels.shape = inspect(step.graph(0).raw());
  const auto& nodes = kernels.shape.nodes;
  std::map<cudaGraphNode_t, int> indices;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    indices[nodes[i].handle] = static_cast<int>(i);
    kernels.num_kernels +=
        nodes[i].type == cudaGraphNodeTypeKernel && !is_timer_look(nodes[i]) ? 1 : 0;
  }
  for (const auto& of_op : watch.kernels()) {
    auto& found = kernels.of_op.emplace_back();
    for (const auto handle : of_op) {
      const auto index = indices.find(handle);
      DOVETAIL_CHECK(index != indices.end(), "a kernel that was captured is not in the graph");
      if (!is_timer_look(nodes[static_cast<std::size_t>(index->second)])) {
        found.push_back(index->second);
      }
    }
  }
  return kernels;
}

std::vector<std::string> structure_errors(const Schedule& schedule,
                                          const StepKernels& kernels,
                                          bool has_peers) {
  const auto& ops = schedule.ops;
  std::vector<std::string> errors;
  int of_ops = 0;
  int per_exchange = -1;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    of_ops += static_cast<int>(kernels.of_op[i].size());
    const auto error =
        error_of_op(ops[i], kernels.of_op[i], kernels.shape, has_peers, per_exchange);
    if (!error.empty()) {
      errors.push_back(describe_op(static_cast<int>(i), ops[i]) + error);
    }
  }
  if (of_ops != kernels.num_kernels) {
    errors.push_back("the graph has " + std::to_string(kernels.num_kernels) +
                     " kernels, its ops launched " + std::to_string(of_ops));
  }
  const auto wanted = schedule_orders(schedule);
  const auto found = kernels.shape.reachability();
  for (std::size_t j = 0; j < ops.size(); ++j) {
    for (std::size_t i = 0; i < j; ++i) {
      const bool ordered = wanted.reaches(static_cast<int>(i), static_cast<int>(j));
      const auto error = error_of_pair(kernels.of_op[i], kernels.of_op[j], found, ordered);
      if (!error.empty()) {
        errors.push_back(describe_op(static_cast<int>(j), ops[j]) + error +
                         describe_op(static_cast<int>(i), ops[i]));
      }
    }
  }
  return errors;
}

int num_unordered_pairs(const StepKernels& kernels, bool wire_only) {
  const auto& nodes = kernels.shape.nodes;
  std::vector<int> chosen;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].type == cudaGraphNodeTypeKernel && (!wire_only || is_of_wire(nodes[i]))) {
      chosen.push_back(static_cast<int>(i));
    }
  }
  const auto found = kernels.shape.reachability();
  int count = 0;
  for (std::size_t b = 0; b < chosen.size(); ++b) {
    for (std::size_t a = 0; a < b; ++a) {
      count += are_ordered(found, chosen[a], chosen[b]) ? 0 : 1;
    }
  }
  return count;
}

int kernels_beside(const Schedule& schedule, const StepKernels& kernels, std::size_t op) {
  const auto found = kernels.shape.reachability();
  int count = 0;
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (is_exchange(schedule.ops[i].phase)) {
      continue;
    }
    for (const int kernel : kernels.of_op[i]) {
      const auto& transfer = kernels.of_op[op];
      count += std::none_of(transfer.begin(),
                            transfer.end(),
                            [&](int of_wire) { return are_ordered(found, kernel, of_wire); })
                   ? 1
                   : 0;
    }
  }
  return count;
}

std::string some_of(const std::vector<std::string>& errors) {
  constexpr std::ptrdiff_t kSome = 5;
  std::string text = std::to_string(errors.size()) + " errors";
  for (std::ptrdiff_t i = 0; i < std::min(kSome, std::ssize(errors)); ++i) {
    text += "\n  " + errors[static_cast<std::size_t>(i)];
  }
  return text;
}

}  // namespace dovetail::test
