// Step bodies for tests: one that computes a result that depends on every order, and what tests
// need to make ops fail or hang.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail::testing {

/// Records when each op began and ended on one logical clock, and folds ops into values as a model
/// would: hidden state per ubatch, keys and values per layer, so that a violated order changes the
/// result. None of the values is atomic: ThreadSanitizer sees a missing happens-before.
class RecordingBody final : public StepBody {
 public:
  struct Record {
    Op op;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::thread::id thread;
  };

  explicit RecordingBody(const Schedule& schedule)
      : keys_(schedule.layers.size(), 1), shared_(schedule.layers.size() * kMaxUbatches, 0) {}

  std::function<void(const Op&)> hook;  ///< runs in the middle of each op; may throw

  void run(const Op& op) override {
    const std::uint64_t begin = clock_.fetch_add(1);
    if (hook) {
      hook(op);
    }
    work(op);
    const std::uint64_t end = clock_.fetch_add(1);
    auto& records = op.lane == Lane::comm ? comm_records_ : compute_records_;
    records.push_back({op, begin, end, std::this_thread::get_id()});
  }

  const std::vector<Record>& compute_records() const { return compute_records_; }

  const std::vector<Record>& comm_records() const { return comm_records_; }

  const std::array<std::uint64_t, kMaxUbatches>& result() const { return hidden_; }

 private:
  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    return (a ^ (b + 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL;
  }

  void work(const Op& op) {
    auto& hidden = hidden_[static_cast<std::size_t>(op.ubatch)];
    const auto tag =
        static_cast<std::uint64_t>(op.layer + 1) * 16 + static_cast<std::uint64_t>(op.phase);
    if (op.layer == kNoLayer) {
      hidden = mix(hidden, tag);
      return;
    }
    const auto layer = static_cast<std::size_t>(op.layer);
    auto& shared = shared_[layer * kMaxUbatches + static_cast<std::size_t>(op.ubatch)];
    if (op.phase == Phase::attention) {
      if (op.layer > 0) {  // finish of the layer before adds its shared experts
        hidden =
            mix(hidden, shared_[(layer - 1) * kMaxUbatches + static_cast<std::size_t>(op.ubatch)]);
      }
      keys_[layer] = mix(keys_[layer], hidden);
      hidden = mix(hidden, keys_[layer]);
    } else if (op.phase == Phase::shared_experts) {
      shared = tag;
    } else {
      hidden = mix(hidden, tag);
    }
  }

  std::atomic<std::uint64_t> clock_{0};
  std::array<std::uint64_t, kMaxUbatches> hidden_{};
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> shared_;
  std::vector<Record> compute_records_;
  std::vector<Record> comm_records_;
};

}  // namespace dovetail::testing
