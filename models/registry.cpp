#include "models/registry.hpp"

namespace dovetail {

const Registry<ArchitectureFactory>& architectures() {
  static const Registry<ArchitectureFactory> all = [] {
    Registry<ArchitectureFactory> registry("architecture");
    return registry;
  }();
  return all;
}

}  // namespace dovetail
