// The rows of quantities.hpp, a function for each group of reports.
#pragma once

#include <vector>

#include "framework/compare/quantities.hpp"

namespace dovetail {

std::vector<Quantity> word_quantities();
std::vector<Quantity> compare_quantities();
/// Those that no table of compare shows.
std::vector<Quantity> summary_quantities();
std::vector<Quantity> verify_quantities();
std::vector<Quantity> sweep_quantities();
std::vector<Quantity> plan_quantities();

}  // namespace dovetail
