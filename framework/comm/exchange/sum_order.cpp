#include "framework/comm/exchange/sum_order.hpp"

#include <string>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/expert_tree.hpp"

namespace dovetail {

std::string_view to_string(SumOrder order) {
  switch (order) {
    case SumOrder::by_rank:
      return "by_rank";
    case SumOrder::by_choice:
      return "by_choice";
    case SumOrder::by_expert:
      return "by_expert";
  }
  return "?";
}

SumOrder sum_order(Numerics numerics, bool on_gpu) {
  if (numerics == Numerics::fast) {
    return SumOrder::by_rank;
  }
  return on_gpu ? SumOrder::by_expert : SumOrder::by_choice;
}

void check_grid(SumOrder order, int num_experts, int expert_parallel) {
  if (order == SumOrder::by_expert && !hold_subtrees(expert_parallel, num_experts)) {
    throw InputError("numerics batch_invariant on GPUs with expert_parallel " +
                     std::to_string(expert_parallel) + " and " + std::to_string(num_experts) +
                     " experts; allowed: a power of two up to " +
                     std::to_string(num_tree_blocks(num_experts)));
  }
}

}  // namespace dovetail
