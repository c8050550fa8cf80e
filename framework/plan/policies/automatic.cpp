#include "framework/plan/policies/automatic.hpp"

#include <vector>

namespace dovetail {

const Policy& find_candidate(const std::string& candidate) {
  std::vector<std::string> allowed;
  for (const auto& name : policies().names()) {
    if (name != "auto" && policies().at(name).max_ubatches > 1) {
      allowed.push_back(name);
      if (name == candidate) {
        return policies().at(name);
      }
    }
  }
  throw InputError("policy auto cannot have '" + candidate +
                   "' as its candidate; allowed: " + join_names(allowed));
}

}  // namespace dovetail
