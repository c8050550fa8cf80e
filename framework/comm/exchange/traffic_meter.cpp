#include "framework/comm/exchange/traffic_meter.hpp"

#include <utility>

namespace dovetail {

namespace {

constexpr std::int64_t Traffic::*kTrafficParts[] = {&Traffic::dispatch_wire_bytes,
                                                    &Traffic::combine_wire_bytes,
                                                    &Traffic::dispatch_received_bytes,
                                                    &Traffic::combine_received_bytes,
                                                    &Traffic::dispatch_logical_bytes,
                                                    &Traffic::combine_logical_bytes,
                                                    &Traffic::counts_wait_ns};
static_assert(sizeof kTrafficParts / sizeof *kTrafficParts ==
              sizeof(Traffic) / sizeof(std::int64_t));

}  // namespace

Traffic& Traffic::operator+=(const Traffic& more) {
  for (const auto part : kTrafficParts) {
    this->*part += more.*part;
  }
  return *this;
}

Traffic& Traffic::operator-=(const Traffic& less) {
  for (const auto part : kTrafficParts) {
    this->*part -= less.*part;
  }
  return *this;
}

TrafficMeter::TrafficMeter(std::function<Traffic()> read_device)
    : read_device_(std::move(read_device)) {}

Traffic TrafficMeter::traffic() const {
  Traffic all = sum_;
  if (read_device_) {
    all += read_device_();
    all -= before_;
  }
  return all;
}

void TrafficMeter::reset() {
  if (read_device_) {
    before_ = read_device_();
  }
  sum_ = Traffic{};
}

Traffic TrafficMeter::take_captured() {
  return std::exchange(captured_, Traffic{});
}

}  // namespace dovetail
