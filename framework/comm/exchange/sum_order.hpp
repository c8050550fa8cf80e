// In which order the rows that a token's experts have made of it are added.
#pragma once

#include <string_view>

#include "framework/config/choices.hpp"

namespace dovetail {

/// The sums are in float32; the first term of a sum is stored, not added to zero, and products with
/// weights are rounded before they are added.
enum class SumOrder {
  /// Each rank adds its rows of a token in ascending k (the place in the token's expert_ids) and
  /// rounds to the activation dtype; the owner adds these in ascending rank and rounds. Depends on
  /// the grid.
  by_rank,
  /// The owner adds all rows in ascending k and rounds once, so each row comes back. The same on
  /// every grid, and that of by_rank on one rank.
  by_choice,
  /// Rows meet in the tree of expert_tree.hpp and are rounded wherever two meet. A rank's experts
  /// are a subtree, so one row comes back from it, as by_rank. The same on every grid that
  /// check_grid takes.
  by_expert
};

/// As above.
std::string_view to_string(SumOrder order);

/// Of an exchange of these numerics: by_rank of `fast`. GPUs take by_expert for batch_invariant:
/// their exchanges are bound by the bytes that come back. CPU ranks take by_choice, for any grid.
SumOrder sum_order(Numerics numerics, bool on_gpu);

/// Throws InputError where groups of `expert_parallel` ranks cannot add in this order.
void check_grid(SumOrder order, int num_experts, int expert_parallel);

}  // namespace dovetail
