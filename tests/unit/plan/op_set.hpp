// A set of a schedule's ops, for oracles that compare all of them with each other.
#pragma once

#include <bitset>
#include <cstddef>
#include <vector>

namespace dovetail::testing {

inline constexpr std::size_t kMostOps = 1024;

using OpSet = std::bitset<kMostOps>;  ///< by index; whole sets are joined in a few instructions
using OpSets = std::vector<OpSet>;    ///< [ops]

}  // namespace dovetail::testing
