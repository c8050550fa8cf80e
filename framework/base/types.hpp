// The vocabulary shared by all layers: kinds of work, element types, lanes of choice. Standard
// library only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "framework/base/enum_names.hpp"

namespace dovetail {

/// The greatest number of ubatches of a step: what arrays with an entry for each are made for.
inline constexpr int kMaxUbatches = 8;

/// The greatest number of groups that the experts of a rank are cut into.
inline constexpr int kMaxGroups = 8;

/// Element type of a tensor on disk or in a model.
enum class DType { float32, float16, bfloat16, float64, int32, int64, uint8 };

/// Kind of work in a step.
enum class WorkPhase { prefill, decode, mixed };

/// Who walks the schedule: one persistent thread per ubatch, or one thread for all.
enum class HandOff { threads, inline_walk };

/// How much of a step is captured in CUDA graphs.
enum class GraphMode { none, piecewise, full };

/// Where a model runs; `automatic` is a GPU if there is one.
enum class DeviceKind { automatic, cpu, cuda };

/// Which ops of a schedule run in a pass: all, or only one side of the overlap (used to attribute
/// time).
enum class PassKind { full, compute_only, comm_only };

/// Why a step is not ubatched. Of several ranks that vote against, the lowest one's is reported.
enum class VetoReason : std::int64_t {
  none = 0,
  below_threshold = 1,  ///< the minimum over ranks that have work is under the policy's threshold
  rank_veto = 2,        ///< a rank voted against (a test or a local limit)
  no_work = 3,          ///< no rank has a token
  table_prefers_plain = 4,  ///< auto: by its table of step times ubatches gain nothing
  table_has_no_point = 5,   ///< auto: its table measured nothing like this step
};

/// Why a step did not run as a graph.
enum class EagerReason : std::int64_t {
  none = 0,               ///< it did
  mode_none = 1,          ///< the policy asks for no graphs
  warm_up = 2,            ///< runs before a capture
  capture_failed = 3,     ///< a rank could not capture it
  pass_not_captured = 4,  ///< a profiled pass that is not captured
  no_work = 5,            ///< no rank has a token
};

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  constexpr std::array<std::size_t, 7> bytes = {4, 2, 2, 8, 4, 8, 1};  // in DType's order
  return bytes.at(static_cast<std::size_t>(dtype));
}

/// Who chose the experts of a run: its router, a run before it, or the workload.
enum class RoutingSource { natural, replayed, synthetic };

template <>
struct EnumNames<RoutingSource> {
  static constexpr std::array<std::string_view, 3> kTable = {"natural", "replayed", "synthetic"};
};

template <>
struct EnumNames<DType> {
  static constexpr std::array<std::string_view, 7> kTable = {
      "float32", "float16", "bfloat16", "float64", "int32", "int64", "uint8"};
};

/// False for integers, which are not rounded.
constexpr bool is_float(DType dtype) {
  return dtype != DType::int32 && dtype != DType::int64 && dtype != DType::uint8;
}

template <>
struct EnumNames<WorkPhase> {
  static constexpr std::array<std::string_view, 3> kTable = {"prefill", "decode", "mixed"};
};

template <>
struct EnumNames<HandOff> {
  static constexpr std::array<std::string_view, 2> kTable = {"threads", "inline"};
};

template <>
struct EnumNames<GraphMode> {
  static constexpr std::array<std::string_view, 3> kTable = {"none", "piecewise", "full"};
};

template <>
struct EnumNames<DeviceKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"auto", "cpu", "cuda"};
};

template <>
struct EnumNames<PassKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"full", "compute_only", "comm_only"};
};

template <>
struct EnumNames<VetoReason> {
  static constexpr std::array<std::string_view, 6> kTable = {"none",
                                                             "below_threshold",
                                                             "rank_veto",
                                                             "no_work",
                                                             "table_prefers_plain",
                                                             "table_has_no_point"};
};

template <>
struct EnumNames<EagerReason> {
  static constexpr std::array<std::string_view, 6> kTable = {
      "none", "mode_none", "warm_up", "capture_failed", "pass_not_captured", "no_work"};
};

}  // namespace dovetail
