// The vocabulary shared by all layers: kinds of work, element types, lanes of choice. Standard
// library only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace dovetail {

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

/// Bytes of one element.
std::size_t size_of(DType dtype);

/// Names as written in experiment files and result files: "float32", "prefill", "inline", ...
std::string_view to_string(DType value);
std::string_view to_string(WorkPhase value);
std::string_view to_string(HandOff value);
std::string_view to_string(GraphMode value);
std::string_view to_string(DeviceKind value);
std::string_view to_string(PassKind value);

/// The inverse of to_string; nothing where the name is unknown. `names<T>()` lists what is allowed.
template <class Enum>
std::optional<Enum> parse(std::string_view name);
template <class Enum>
std::span<const std::string_view> names();

}  // namespace dovetail
