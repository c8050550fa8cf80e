// The architectures, by the name that an experiment gives, and the sources of weights. To add an
// architecture: implement Architecture and Model, add a line in registry.cpp.
#pragma once

#include "framework/step/model_catalog.hpp"

namespace dovetail {

const Registry<ArchitectureFactory>& architectures();

/// What launch hands to a run.
ModelCatalog model_catalog();

}  // namespace dovetail
