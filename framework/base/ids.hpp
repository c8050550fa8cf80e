// Ids as types, so that a rank of one group cannot be passed for a rank of another.
#pragma once

#include <compare>
#include <ostream>

namespace dovetail {

/// An integer id that converts to nothing by itself; `value` is the number.
template <class Tag>
struct Id {
  int value = 0;

  constexpr Id() = default;

  constexpr explicit Id(int id) : value(id) {}

  friend constexpr auto operator<=>(Id, Id) = default;

  friend std::ostream& operator<<(std::ostream& stream, Id id) { return stream << id.value; }
};

/// Rank in the world.
using Rank = Id<struct RankTag>;
/// Rank within the expert-parallel group (ranks of equal dp_rank).
using EpRank = Id<struct EpRankTag>;
/// Rank within the data-parallel group (ranks of equal ep_rank).
using DpRank = Id<struct DpRankTag>;

}  // namespace dovetail
