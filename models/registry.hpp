// The architectures, by the name that an experiment gives. To add one: implement Architecture and
// Model, add a line in registry.cpp.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "framework/base/registry.hpp"
#include "models/architecture.hpp"

namespace dovetail {

/// Reads a Hugging Face config.json. Throws InputError naming file and key.
using ArchitectureFactory =
    std::function<std::unique_ptr<Architecture>(const std::string& config_path)>;

const Registry<ArchitectureFactory>& architectures();

}  // namespace dovetail
