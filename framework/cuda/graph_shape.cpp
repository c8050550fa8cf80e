#include "framework/cuda/graph_shape.hpp"

#include <cstddef>
#include <cstring>
#include <functional>

#include <cudaTypedefs.h>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/driver_function.hpp"

namespace dovetail {
namespace {

/// Nodes in an order in which every edge points forward.
std::vector<int> sorted(int num_nodes, const std::vector<std::vector<int>>& successors) {
  std::vector<int> missing(static_cast<std::size_t>(num_nodes), 0);
  for (const auto& targets : successors) {
    for (const int to : targets) {
      ++missing[static_cast<std::size_t>(to)];
    }
  }
  std::vector<int> order;
  for (int node = 0; node < num_nodes; ++node) {
    if (missing[static_cast<std::size_t>(node)] == 0) {
      order.push_back(node);
    }
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (const int to : successors[static_cast<std::size_t>(order[i])]) {
      if (--missing[static_cast<std::size_t>(to)] == 0) {
        order.push_back(to);
      }
    }
  }
  DOVETAIL_CHECK_EQ(order.size(), static_cast<std::size_t>(num_nodes));
  return order;
}

std::string type_name(cudaGraphNodeType type) {
  switch (type) {
    case cudaGraphNodeTypeKernel:
      return "kernel";
    case cudaGraphNodeTypeMemcpy:
      return "memcpy";
    case cudaGraphNodeTypeMemset:
      return "memset";
    case cudaGraphNodeTypeHost:
      return "host";
    case cudaGraphNodeTypeGraph:
      return "child graph";
    case cudaGraphNodeTypeEmpty:
      return "empty";
    case cudaGraphNodeTypeWaitEvent:
      return "event wait";
    case cudaGraphNodeTypeEventRecord:
      return "event record";
    default:
      return "type " + std::to_string(static_cast<int>(type));
  }
}

/// For kernels of libraries that are linked with a CUDA runtime of their own, as NCCL is: the
/// runtime of this program does not know them.
std::string name_by_driver(cudaGraphNode_t node) {
  const auto parameters_of =
      driver_function<PFN_cuGraphKernelNodeGetParams_v12000>("cuGraphKernelNodeGetParams", 12000);
  const auto function_name = driver_function<PFN_cuFuncGetName_v12030>("cuFuncGetName", 12030);
  const auto kernel_name = driver_function<PFN_cuKernelGetName_v12030>("cuKernelGetName", 12030);
  CUDA_KERNEL_NODE_PARAMS_v2 parameters{};
  const char* name = nullptr;
  if (parameters_of == nullptr || function_name == nullptr || kernel_name == nullptr ||
      parameters_of(node, &parameters) != CUDA_SUCCESS) {
    return "";
  }
  const auto status = parameters.func != nullptr ? function_name(&name, parameters.func)
                                                 : kernel_name(&name, parameters.kern);
  return status == CUDA_SUCCESS && name != nullptr ? name : "";
}

CUDA_KERNEL_NODE_PARAMS_v2 launch_of(const GraphNode& node) {
  const auto parameters_of =
      driver_function<PFN_cuGraphKernelNodeGetParams_v12000>("cuGraphKernelNodeGetParams", 12000);
  CUDA_KERNEL_NODE_PARAMS_v2 parameters{};
  if (parameters_of == nullptr || parameters_of(node.handle, &parameters) != CUDA_SUCCESS) {
    throw RunError("the driver does not say the launch of a kernel node: " + node.function);
  }
  return parameters;
}

std::string function_name(cudaGraphNode_t node) {
  cudaKernelNodeParams parameters{};
  const char* name = nullptr;
  if (cudaGraphKernelNodeGetParams(node, &parameters) != cudaSuccess ||
      cudaFuncGetName(&name, parameters.func) != cudaSuccess || name == nullptr) {
    static_cast<void>(cudaGetLastError());
    return name_by_driver(node);
  }
  return name;
}

}  // namespace

Reachability::Reachability(int num_nodes, const std::vector<std::pair<int, int>>& edges)
    : words_((static_cast<std::size_t>(num_nodes) + 63) / 64),
      bits_(static_cast<std::size_t>(num_nodes) * words_, 0) {
  std::vector<std::vector<int>> successors(static_cast<std::size_t>(num_nodes));
  for (const auto& [from, to] : edges) {
    successors.at(static_cast<std::size_t>(from)).push_back(to);
  }
  const auto order = sorted(num_nodes, successors);
  for (auto node = order.rbegin(); node != order.rend(); ++node) {
    std::uint64_t* row = &bits_[static_cast<std::size_t>(*node) * words_];
    for (const int to : successors[static_cast<std::size_t>(*node)]) {
      const auto target = static_cast<std::size_t>(to);
      for (std::size_t word = 0; word < words_; ++word) {
        row[word] |= bits_[target * words_ + word];
      }
      row[target / 64] |= std::uint64_t{1} << (target % 64);
    }
  }
}

bool Reachability::reaches(int from, int to) const {
  const auto target = static_cast<std::size_t>(to);
  return (bits_.at(static_cast<std::size_t>(from) * words_ + target / 64) >> (target % 64) & 1) !=
         0;
}

std::map<std::string, int> GraphShape::count_by_type() const {
  std::map<std::string, int> counts;
  for (const auto& node : nodes) {
    ++counts[type_name(node.type)];
  }
  return counts;
}

GraphShape inspect(cudaGraph_t graph) {
  std::size_t num_nodes = 0;
  check_cuda(cudaGraphGetNodes(graph, nullptr, &num_nodes), "count the nodes of a graph");
  std::vector<cudaGraphNode_t> handles(num_nodes);
  if (num_nodes > 0) {
    check_cuda(cudaGraphGetNodes(graph, handles.data(), &num_nodes), "list the nodes of a graph");
  }
  GraphShape shape;
  std::map<cudaGraphNode_t, int> indices;
  for (const auto handle : handles) {
    indices[handle] = static_cast<int>(shape.nodes.size());
    GraphNode node{handle, cudaGraphNodeTypeEmpty, ""};
    check_cuda(cudaGraphNodeGetType(handle, &node.type), "type of a graph's node");
    if (node.type == cudaGraphNodeTypeKernel) {
      node.function = function_name(handle);
    }
    shape.nodes.push_back(std::move(node));
  }
  std::size_t num_edges = 0;
  check_cuda(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &num_edges),
             "count the edges of a graph");
  std::vector<cudaGraphNode_t> from(num_edges);
  std::vector<cudaGraphNode_t> to(num_edges);
  std::vector<cudaGraphEdgeData> data(num_edges);
  if (num_edges > 0) {
    check_cuda(cudaGraphGetEdges(graph, from.data(), to.data(), data.data(), &num_edges),
               "list the edges of a graph");
  }
  for (std::size_t i = 0; i < num_edges; ++i) {
    shape.edges.emplace_back(indices.at(from[i]), indices.at(to[i]));
  }
  return shape;
}

KernelGrid grid_of(const GraphNode& node) {
  const CUDA_KERNEL_NODE_PARAMS_v2 parameters = launch_of(node);
  return {.blocks = std::int64_t{parameters.gridDimX} * parameters.gridDimY * parameters.gridDimZ,
          .threads =
              static_cast<int>(parameters.blockDimX * parameters.blockDimY * parameters.blockDimZ),
          .shared_bytes = static_cast<int>(parameters.sharedMemBytes)};
}

std::int32_t first_kernel_argument(const GraphNode& node) {
  cudaKernelNodeParams parameters{};
  check_cuda(cudaGraphKernelNodeGetParams(node.handle, &parameters), "arguments of a kernel node");
  DOVETAIL_CHECK(parameters.kernelParams != nullptr && parameters.kernelParams[0] != nullptr,
                 "a kernel without arguments: " + node.function);
  std::int32_t value = 0;
  std::memcpy(&value, parameters.kernelParams[0], sizeof(value));
  return value;
}

bool has_argument_within(const GraphNode& node, const void* begin, const void* end) {
  const auto of_function =
      driver_function<PFN_cuFuncGetParamInfo_v12040>("cuFuncGetParamInfo", 12040);
  const auto of_kernel =
      driver_function<PFN_cuKernelGetParamInfo_v12040>("cuKernelGetParamInfo", 12040);
  if (of_function == nullptr || of_kernel == nullptr) {
    throw RunError("the driver does not say the arguments of kernels");
  }
  const CUDA_KERNEL_NODE_PARAMS_v2 launch = launch_of(node);
  std::size_t offset = 0;
  std::size_t size = 0;
  for (std::size_t i = 0; launch.kernelParams != nullptr; ++i) {
    const auto status = launch.func != nullptr ? of_function(launch.func, i, &offset, &size)
                                               : of_kernel(launch.kern, i, &offset, &size);
    if (status != CUDA_SUCCESS) {
      break;  // there are no more
    }
    const std::byte* address = nullptr;
    if (size == sizeof(address)) {
      std::memcpy(&address, launch.kernelParams[i], sizeof(address));
      if (std::less_equal<>()(static_cast<const std::byte*>(begin), address) &&
          std::less<>()(address, static_cast<const std::byte*>(end))) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace dovetail
