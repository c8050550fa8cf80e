#include "framework/compare/output_names.hpp"

#include <algorithm>

#include "framework/record/schema.hpp"

namespace dovetail {

std::string output_path(const std::string& name) {
  return std::string(path::kOutput) + "/" + name;
}

bool is_of_cache(const std::string& name) {
  return name.starts_with("key_") || name.starts_with("value_") || name.starts_with("latent_");
}

std::int64_t layer_of(const std::string& name) {
  const std::string digits =
      is_of_cache(name) || name.starts_with("layer_") ? name.substr(name.find('_') + 1) : "";
  const bool is_number = !digits.empty() && digits.size() < 10 &&
                         digits.find_first_not_of("0123456789") == std::string::npos;
  return is_number ? std::stoll(digits) : -1;
}

bool has_row_per_request(const std::string& name) {
  return name == "logits";
}

void sort_by_data_flow(std::vector<std::string>& names) {
  // -1 (what follows the last layer) sorts last as an unsigned number.
  std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
    return static_cast<std::uint64_t>(layer_of(a)) < static_cast<std::uint64_t>(layer_of(b));
  });
}

}  // namespace dovetail
