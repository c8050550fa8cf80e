// Where a rank stands when a run fails: plain data that ranks can send to one another.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "framework/base/types.hpp"

namespace dovetail {

/// An op of one lane and ubatch that was begun and has not ended.
struct OpenOp {
  std::int32_t layer = -1;  ///< kNoLayer = of no layer
  std::int8_t lane = 0;     ///< Lane
  std::int8_t ubatch = 0;
  std::int8_t phase = 0;          ///< Phase
  std::int8_t waits = 0;          ///< 1 = its thread waits for other ranks or for a device
  std::int64_t open_ns = 0;       ///< since it was begun
  std::int32_t cpu_percent = -1;  ///< of a core, used by its thread just now; -1 = not measured
  std::int32_t group = -1;        ///< kNoGroup = of all groups of experts
};

/// Trivially copyable, of one size. Texts end with a zero.
struct RankState {
  static constexpr std::size_t kMaxOpenOps = std::size_t{2} * kMaxUbatches;

  std::int32_t rank = -1;
  std::int32_t answered = 0;    ///< 0 = nothing is known of this rank
  std::int32_t exit_code = 0;   ///< 0 = it has not failed itself
  std::int32_t timed_out = 0;   ///< 1 = its failure only says that it waited in vain
  std::int32_t main_waits = 0;  ///< 1 = the main thread waits for others, outside of ops
  std::int32_t iteration = -1;  ///< warm-up counted; -1 = of none
  std::int32_t step = -1;
  std::int32_t gone = 0;  ///< 1 = its process has ended without a word; so say the others
  std::int32_t num_open_ops = 0;
  std::array<OpenOp, kMaxOpenOps> open_ops = {};
  std::int64_t main_ns = 0;            ///< since the main thread began its activity
  std::int64_t file_ns = 0;            ///< since the open call on `file` was begun; 0 = none is
  std::array<char, 48> activity = {};  ///< of the main thread: "a timed step"
  std::array<char, 64> host = {};      ///< of a rank that is gone; empty = not known
  std::array<char, 256> file = {};     ///< that a thread reads or writes
  std::array<char, 896> message = {};  ///< of its own failure

  /// Cut where it is too long.
  void set_message(std::string_view text);
  void set_host(std::string_view text);
};

}  // namespace dovetail
