// The architectures, by the name that an experiment gives. To add one: implement Architecture and
// Model, add a line in registry.cpp.
#pragma once

#include <functional>
#include <memory>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"
#include "models/architecture.hpp"

namespace dovetail {

/// Reads the Hugging Face config.json of an experiment's model, for its range of layers. Throws
/// InputError naming file and key, or the layers that are allowed.
using ArchitectureFactory = std::function<std::unique_ptr<Architecture>(const ModelConfig& model)>;

const Registry<ArchitectureFactory>& architectures();

}  // namespace dovetail
