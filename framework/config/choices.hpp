// The choices that an experiment file offers by name, beside those of framework/base/types.hpp, and
// the bounds of its numbers.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "framework/base/types.hpp"

namespace dovetail {

/// The largest numbers that a file may state.
struct Limits {
  static constexpr std::int64_t kCount = 1'000'000;  ///< of iterations, requests, ranks, layers
  static constexpr std::int64_t kTokens = 1'000'000'000;
  static constexpr std::int64_t kVariants = 1000;
};

/// batch_invariant: a row's result does not depend on what else is in the batch.
enum class Numerics { fast, batch_invariant };

/// What the model is fed with; hidden: the hidden states that a pipeline stage has left.
enum class InputKind { ids, embeds, hidden };

/// 1-D positions, or [3, T] of multimodal RoPE.
enum class PositionKind { text, mrope };

/// How the KV cache of requests with context is filled before the first iteration: by forward
/// passes over seeded tokens, or with seeded random values.
enum class ContextFill { prefill, random };

/// How NCCL may move rows between the GPUs of a host: as it chooses; by reading and writing each
/// other's memory; through the host's memory; through the network.
enum class Fabric { automatic, nvlink, shared_memory, socket };

/// How a GPU's SMs are shared out where the exchange runs beside compute. soft: kernels of compute
/// leave some out, and the exchange has the higher priority; hard: each side has SMs of its own.
enum class SmPartitionKind { soft, hard };

/// How a policy's outputs are compared with the baseline's; none = not at all.
enum class VerifyMode { none, bitwise, tolerance };

/// natural: every policy routes by its own logits; replay: the baseline's expert ids are taken.
enum class VerifyRouting { natural, replay };

/// A tensor that a run writes: `layers` gives /output/layer_<n>, `routing` gives /route, `kv` gives
/// /output/key_<n> and /output/value_<n>.
enum class RecordedOutput { hidden, logits, logits_all, layers, routing, kv };

/// steps: whole steps only; ops: also extra iterations with the times of each op.
enum class TimingDetail { steps, ops };

/// What the points of a sweep do with a policy that is the same in an earlier point.
enum class UnchangedPolicies { measure_once, measure_again };

/// What an injected fault does. The first six throw, never return, compute without an end, kill
/// their process, vote against ubatching, or throw only while their step is captured, which the run
/// survives. delay makes an op longer in every step, and results stay right. The others, from
/// skipped_wait on, are data faults: the run goes on with wrong results.
enum class FaultKind {
  exception,
  hang,
  slow,
  kill,
  veto,
  capture,
  delay,
  skipped_wait,
  stale_buffer,
  early_reuse,
  swapped_tokens,
  flipped_element,
  wrong_expert,
  dropped_weight,
  stale_kv,
  wrong_position
};

template <>
struct EnumNames<Numerics> {
  static constexpr std::array<std::string_view, 2> kTable = {"fast", "batch_invariant"};
};

template <>
struct EnumNames<InputKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"ids", "embeds", "hidden"};
};

template <>
struct EnumNames<PositionKind> {
  static constexpr std::array<std::string_view, 2> kTable = {"text", "mrope"};
};

template <>
struct EnumNames<ContextFill> {
  static constexpr std::array<std::string_view, 2> kTable = {"prefill", "random"};
};

template <>
struct EnumNames<Fabric> {
  static constexpr std::array<std::string_view, 4> kTable = {
      "auto", "nvlink", "shared_memory", "socket"};
};

template <>
struct EnumNames<SmPartitionKind> {
  static constexpr std::array<std::string_view, 2> kTable = {"soft", "hard"};
};

template <>
struct EnumNames<VerifyMode> {
  static constexpr std::array<std::string_view, 3> kTable = {"none", "bitwise", "tolerance"};
};

template <>
struct EnumNames<VerifyRouting> {
  static constexpr std::array<std::string_view, 2> kTable = {"natural", "replay"};
};

template <>
struct EnumNames<RecordedOutput> {
  static constexpr std::array<std::string_view, 6> kTable = {
      "hidden", "logits", "logits_all", "layers", "routing", "kv"};
};

template <>
struct EnumNames<UnchangedPolicies> {
  static constexpr std::array<std::string_view, 2> kTable = {"measure_once", "measure_again"};
};

template <>
struct EnumNames<TimingDetail> {
  static constexpr std::array<std::string_view, 2> kTable = {"steps", "ops"};
};

template <>
struct EnumNames<FaultKind> {
  static constexpr std::array<std::string_view, 16> kTable = {"exception",
                                                              "hang",
                                                              "slow",
                                                              "kill",
                                                              "veto",
                                                              "capture",
                                                              "delay",
                                                              "skipped_wait",
                                                              "stale_buffer",
                                                              "early_reuse",
                                                              "swapped_tokens",
                                                              "flipped_element",
                                                              "wrong_expert",
                                                              "dropped_weight",
                                                              "stale_kv",
                                                              "wrong_position"};
};

}  // namespace dovetail
