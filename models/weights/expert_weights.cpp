#include "models/weights/expert_weights.hpp"

#include <vector>

#include "framework/base/check.hpp"

namespace dovetail {

std::string expert_weight_name(const std::string& prefix, int expert, const char* projection) {
  return prefix + ".experts." + std::to_string(expert) + "." + projection + ".weight";
}

void read_experts(WeightSource& source,
                  const std::string& prefix,
                  int first_expert,
                  int num_experts,
                  const at::Tensor& gate_up,
                  const at::Tensor& down) {
  DOVETAIL_CHECK(gate_up.dim() == 3 && down.dim() == 3, "experts are stacked in 3-D tensors");
  const std::int64_t num_local = gate_up.size(0);
  const std::int64_t hidden = gate_up.size(2);
  const std::int64_t intermediate = down.size(2);
  DOVETAIL_CHECK_EQ(gate_up.size(1), 2 * intermediate);
  DOVETAIL_CHECK_EQ(down.size(0), num_local);
  DOVETAIL_CHECK_EQ(down.size(1), hidden);
  DOVETAIL_CHECK(first_expert >= 0 && first_expert + num_local <= num_experts,
                 "experts outside of the layer");
  if (num_local == 0) {
    return;
  }
  const std::string stacked = prefix + ".experts.gate_up_proj";
  if (source.has(stacked)) {
    source.read({stacked, {num_experts, 2 * intermediate, hidden}, first_expert, gate_up});
    source.read(
        {prefix + ".experts.down_proj", {num_experts, hidden, intermediate}, first_expert, down});
    return;
  }
  for (std::int64_t i = 0; i < num_local; ++i) {
    const int expert = first_expert + static_cast<int>(i);
    const at::Tensor rows = gate_up.select(0, i);
    source.read({expert_weight_name(prefix, expert, "gate_proj"),
                 {intermediate, hidden},
                 0,
                 rows.narrow(0, 0, intermediate),
                 i == 0 ? std::vector{stacked} : std::vector<std::string>{}});
    source.read({expert_weight_name(prefix, expert, "up_proj"),
                 {intermediate, hidden},
                 0,
                 rows.narrow(0, intermediate, intermediate)});
    source.read({expert_weight_name(prefix, expert, "down_proj"),
                 {hidden, intermediate},
                 0,
                 down.select(0, i)});
  }
}

}  // namespace dovetail
