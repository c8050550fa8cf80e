#include "framework/comm/exchange/traffic_meter.hpp"

#include <utility>

namespace dovetail {

Traffic& Traffic::operator+=(const Traffic& more) {
  dispatch_wire_bytes += more.dispatch_wire_bytes;
  combine_wire_bytes += more.combine_wire_bytes;
  dispatch_received_bytes += more.dispatch_received_bytes;
  combine_received_bytes += more.combine_received_bytes;
  dispatch_logical_bytes += more.dispatch_logical_bytes;
  combine_logical_bytes += more.combine_logical_bytes;
  counts_wait_ns += more.counts_wait_ns;
  return *this;
}

TrafficMeter::TrafficMeter(std::function<std::int64_t()> read_choices, std::int64_t row_bytes)
    : read_choices_(std::move(read_choices)), row_bytes_(row_bytes) {}

Traffic TrafficMeter::traffic() const {
  Traffic all = sum_;
  if (read_choices_) {
    const auto bytes = (read_choices_() - choices_before_) * row_bytes_;
    all.dispatch_logical_bytes += bytes;
    all.combine_logical_bytes += bytes;
  }
  return all;
}

void TrafficMeter::reset() {
  if (read_choices_) {
    choices_before_ = read_choices_();
  }
  sum_ = Traffic{};
}

Traffic TrafficMeter::take_captured() {
  return std::exchange(captured_, Traffic{});
}

}  // namespace dovetail
