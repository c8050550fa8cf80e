// The phases of a forward pass and the shape of a model as a policy sees it.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "framework/base/enum_names.hpp"
#include "framework/base/types.hpp"

namespace dovetail {

/// One kind of work of one layer of one ubatch. Some phases contain calls of the exchange: `route`
/// ends with prepare, `experts` begins with arrange and ends with reduce, and the ubatch's next
/// `attention` or `output` begins with finish.
enum class Phase {
  embed,
  attention,
  route,
  dispatch,
  experts,
  shared_experts,
  combine,
  mlp,
  output
};

inline constexpr int kNumPhases = 9;

/// Where an op runs: the thread that holds the baton / the compute stream, or the comm worker / the
/// comm stream.
enum class Lane { compute, comm };

template <>
struct EnumNames<Phase> {
  static constexpr std::array<std::string_view, kNumPhases> kTable = {"embed",
                                                                      "attention",
                                                                      "route",
                                                                      "dispatch",
                                                                      "experts",
                                                                      "shared_experts",
                                                                      "combine",
                                                                      "mlp",
                                                                      "output"};
};

template <>
struct EnumNames<Lane> {
  static constexpr std::array<std::string_view, 2> kTable = {"compute", "comm"};
};

/// True for the phases that only move data between ranks (dispatch, combine).
constexpr bool is_exchange(Phase phase) {
  return phase == Phase::dispatch || phase == Phase::combine;
}

/// True for the phases that are one op for each group where the experts of a rank are cut into
/// groups.
constexpr bool has_groups(Phase phase) {
  return is_exchange(phase) || phase == Phase::experts;
}

/// True if `pass` runs ops of this phase: compute_only leaves out dispatch and combine, comm_only
/// all others.
constexpr bool runs_in(PassKind pass, Phase phase) {
  return pass == PassKind::full || (pass == PassKind::comm_only) == is_exchange(phase);
}

/// What a policy may know of a layer.
struct LayerShape {
  bool is_moe = true;
  bool has_shared_experts = false;

  friend bool operator==(const LayerShape&, const LayerShape&) = default;
};

/// What a policy may know of a model: its layers, first to last.
struct ModelShape {
  std::vector<LayerShape> layers;

  int num_layers() const { return static_cast<int>(layers.size()); }
};

}  // namespace dovetail
