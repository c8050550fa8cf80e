// `parallel.fabric`: what NCCL may use between the GPUs of a host. Its settings for that are
// variables of the environment, which it reads once in a process.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"

namespace dovetail {

struct FabricVariable {
  const char* name;
  const char* value;
};

/// What NCCL must find in the environment; nothing for `auto`. Pure.
std::vector<FabricVariable> fabric_variables(Fabric fabric);

/// The fabrics by name, for people. Pure.
std::vector<Description> describe_fabrics();

/// Why GPUs that could share memory do not: "parallel.fabric is socket"; empty = nothing keeps them
/// from it. Pure.
std::string what_fabric_forbids(Fabric fabric);

/// Throws InputError where `device`, cpu or cuda, has no such fabric, or a policy asks for an
/// exchange that it forbids. Pure.
void check_fabric(const Experiment& experiment, DeviceKind device);

/// Throws InputError where a variable that the user has set says otherwise. `variable` as
/// std::getenv. Pure.
void check_fabric_variables(Fabric fabric, const std::function<const char*(const char*)>& variable);

/// Throws InputError where points that one process runs have several fabrics. Pure.
void check_one_fabric(const std::vector<Experiment>& points);

/// check_fabric_variables, then sets the variables of this process. Before its first NCCL
/// communicator and while no other thread of it reads the environment.
void set_fabric(Fabric fabric);

}  // namespace dovetail
