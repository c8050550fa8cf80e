// What an exchange counts: bytes on the wire, and the bytes that a routing asks for.
#pragma once

#include <cstdint>
#include <functional>

namespace dovetail {

/// Wire: bytes of all kinds (payload, metadata, counts) that left this rank for another one;
/// received: those that came from another one. Logical: payload bytes of one row per (token,
/// expert) choice of this rank's tokens, own rank included, padding left out, in both directions.
/// The logical bytes of a bench are others: a row for each token and rank (bench_bandwidth.hpp).
struct Traffic {
  std::int64_t dispatch_wire_bytes = 0;
  std::int64_t combine_wire_bytes = 0;
  std::int64_t dispatch_received_bytes = 0;
  std::int64_t combine_received_bytes = 0;
  std::int64_t dispatch_logical_bytes = 0;
  std::int64_t combine_logical_bytes = 0;
  std::int64_t counts_wait_ns = 0;  ///< time blocked on counts

  Traffic& operator+=(const Traffic& more);
  Traffic& operator-=(const Traffic& less);
};

/// Sums since construction or reset. Back ends add in dispatch and combine; others call it while no
/// call of the exchange is in progress. A dispatch or combine that is recorded into a graph sends
/// nothing yet, so its bytes are kept apart: whoever has captured a graph takes them and adds them
/// with every replay.
class TrafficMeter {
 public:
  /// Logical bytes are added like all others.
  TrafficMeter() = default;

  /// For a device whose kernels count, in replays, too: back ends do not add what these count.
  /// `read_device` gives the sums of all steps, may wait for the device, and is called by traffic()
  /// and reset().
  explicit TrafficMeter(std::function<Traffic()> read_device);

  void add(const Traffic& sent) { sum_ += sent; }

  void add_captured(const Traffic& sent) { captured_ += sent; }

  Traffic traffic() const;
  void reset();

  /// What was captured since the last call.
  Traffic take_captured();

 private:
  std::function<Traffic()> read_device_;
  Traffic before_;  ///< what the device had counted when the meter was reset
  Traffic sum_;
  Traffic captured_;
};

}  // namespace dovetail
