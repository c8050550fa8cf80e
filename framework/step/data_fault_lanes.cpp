// Data faults that change the waits between the lanes.
#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>

#include "framework/step/data_fault.hpp"

namespace dovetail {
namespace {

/// A reader that never comes, because the step has failed elsewhere, is not waited for any longer.
constexpr auto kLongestDelay = std::chrono::seconds(5);

/// On a device: longer than it takes to run, and to enqueue on a busy host, the ops that follow.
constexpr auto kDeviceDelay = std::chrono::milliseconds(200);

bool is_same(const Op& op, const std::optional<Op>& other) {
  return other && is_same_op(op, *other);
}

/// The first op behind `from` that reads what an exchange has received: experts of its group behind
/// dispatch;
/// the ubatch's next attention or output behind combine. -1 = none.
int find_reader(const Schedule& schedule, int from) {
  const Op& exchange = schedule.ops[static_cast<std::size_t>(from)];
  for (int i = from + 1; i < std::ssize(schedule.ops); ++i) {
    const Op& op = schedule.ops[static_cast<std::size_t>(i)];
    const bool reads = exchange.phase == Phase::dispatch
                           ? op.phase == Phase::experts && op.group == exchange.group
                           : op.phase == Phase::attention || op.phase == Phase::output;
    if (op.ubatch == exchange.ubatch && reads) {
      return i;
    }
  }
  return -1;
}

}  // namespace

std::optional<LaneFaultOps> find_lane_fault(const FaultConfig& fault, const Schedule& schedule) {
  const auto& ops = schedule.ops;
  const auto found = std::find_if(ops.begin(), ops.end(), [&](const Op& op) {
    return op.layer == fault.layer && op.ubatch == fault.ubatch &&
           to_string(op.phase) == fault.phase && group_index(op) == fault.group;
  });
  if (found == ops.end()) {
    return std::nullopt;
  }
  const auto at = static_cast<int>(found - ops.begin());
  if (fault.kind == FaultKind::skipped_wait) {
    LaneEdges edges;
    find_lane_edges(schedule, PassKind::full, edges);
    const int awaited = edges.wait_for[static_cast<std::size_t>(at)];
    return awaited < 0 ? std::nullopt : std::optional(LaneFaultOps{.reader = at, .other = awaited});
  }
  const int reader = find_reader(schedule, at);
  for (int later = at + 1; later < reader; ++later) {
    const Op& op = ops[static_cast<std::size_t>(later)];
    if (op.phase == found->phase && op.ubatch != fault.ubatch && op.lane == Lane::comm) {
      return LaneFaultOps{.reader = reader, .other = later};
    }
  }
  return std::nullopt;
}

void DataFault::change_edges(const Schedule& schedule, PassKind pass, LaneEdges& edges) {
  reader_.reset();
  other_.reset();
  reader_has_ended_ = false;
  const bool skips = fault_.kind == FaultKind::skipped_wait;
  if (pass != PassKind::full || (!skips && fault_.kind != FaultKind::early_reuse)) {
    return;
  }
  const auto ops = find_lane_fault(fault_, schedule);
  if (!ops || (skips && !is_active_ && !is_capturing_)) {
    return;
  }
  const auto reader = static_cast<std::size_t>(ops->reader);
  reader_ = schedule.ops[reader];
  other_ = schedule.ops[static_cast<std::size_t>(ops->other)];
  if (skips) {
    edges.wait_for[reader] = -1;
    note_acted();
    return;
  }
  // The reader comes after the later use, for certain.
  if (edges.wait_for[reader] < ops->other) {
    edges.wait_for[reader] = ops->other;
    edges.records[static_cast<std::size_t>(ops->other)] = 1;
  }
}

void DataFault::before(const Op& op) {
  if (fault_.kind != FaultKind::skipped_wait || !is_same(op, other_)) {
    return;
  }
  if (delay_) {
    delay_(kDeviceDelay);
    return;
  }
  const auto deadline = std::chrono::steady_clock::now() + kLongestDelay;
  while (!reader_has_ended_ && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void DataFault::after(const Op& op) noexcept {
  if (is_same(op, reader_)) {
    reader_has_ended_ = true;
  }
}

}  // namespace dovetail
