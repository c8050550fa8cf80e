// What an exchange counts: bytes on the wire, and the bytes that a routing asks for.
#pragma once

#include <cstdint>
#include <functional>

namespace dovetail {

/// Wire: bytes of all kinds (payload, metadata, counts) that left this rank for another one;
/// received: those that came from another one. Logical: payload bytes of one row per (token,
/// expert) choice of this rank's tokens, own rank included, padding left out, in both directions
/// (the convention of the DeepEP figures).
struct Traffic {
  std::int64_t dispatch_wire_bytes = 0;
  std::int64_t combine_wire_bytes = 0;
  std::int64_t dispatch_received_bytes = 0;
  std::int64_t combine_received_bytes = 0;
  std::int64_t dispatch_logical_bytes = 0;
  std::int64_t combine_logical_bytes = 0;
  std::int64_t counts_wait_ns = 0;  ///< time blocked on counts

  Traffic& operator+=(const Traffic& more);
};

/// Sums since construction or reset. Back ends add in dispatch and combine; others call it while no
/// call of the exchange is in progress. A dispatch or combine that is recorded into a graph sends
/// nothing yet, so its bytes are kept apart: whoever has captured a graph takes them and adds them
/// with every replay.
class TrafficMeter {
 public:
  /// Logical bytes are added like all others.
  TrafficMeter() = default;

  /// For a device whose kernels count the choices that they route, in replays, too: logical bytes
  /// are `row_bytes` for each choice, and back ends add none. `read_choices` gives the choices of
  /// all steps, may wait for the device, and is called by traffic() and reset().
  TrafficMeter(std::function<std::int64_t()> read_choices, std::int64_t row_bytes);

  void add(const Traffic& sent) { sum_ += sent; }

  void add_captured(const Traffic& sent) { captured_ += sent; }

  Traffic traffic() const;
  void reset();

  /// What was captured since the last call.
  Traffic take_captured();

 private:
  std::function<std::int64_t()> read_choices_;
  std::int64_t row_bytes_ = 0;
  std::int64_t choices_before_ = 0;  ///< when it was reset
  Traffic sum_;
  Traffic captured_;
};

}  // namespace dovetail
