#include "models/weights/nearest_name.hpp"

#include <algorithm>
#include <cstddef>

#include "models/weights/safetensors.hpp"

namespace dovetail {

std::string nearest_name(const std::map<std::string, std::string>& files,
                         const std::vector<std::string>& wanted) {
  std::string nearest;
  std::ptrdiff_t most = -1;
  for (const auto& [other, file] : files) {
    for (const std::string& name : wanted) {
      const auto begin = std::mismatch(name.begin(), name.end(), other.begin(), other.end());
      const auto end = std::mismatch(name.rbegin(), name.rend(), other.rbegin(), other.rend());
      const auto shared = (begin.first - name.begin()) + (end.first - name.rbegin());
      if (shared > most) {
        most = shared;
        nearest = other;
      }
    }
  }
  return nearest.empty() ? "none: it holds no tensors" : quoted_tensor(nearest);
}

}  // namespace dovetail
