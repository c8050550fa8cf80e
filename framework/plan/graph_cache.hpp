// The captured graphs of a rank, by what they were made for: bounded, least recently used first
// out. Pure bookkeeping; what an entry is (CapturedStep, or a number in tests) is a parameter.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/graph_counters.hpp"
#include "framework/base/hash.hpp"
#include "framework/plan/graph_key.hpp"

namespace dovetail {

/// Graphs, and tensors of steps' shapes, that a policy keeps when its iteration has steps of so
/// many shapes: all of them, so that iterations replay what earlier ones have captured; within
/// bounds, because each takes memory.
constexpr std::size_t graph_capacity(int num_shapes) {
  return static_cast<std::size_t>(std::clamp(num_shapes, 16, 128));
}

/// Deterministic: caches that are fed the same calls hold the same keys in the same order on every
/// rank, whatever the entries are. digest() before each step proves that they were. Not
/// thread-safe. `Entry` is movable; entries die in insert, make_room, clear and the destructor, so
/// nothing may replay then.
template <class Entry>
class GraphCache {
 public:
  /// Throws ContractError for a capacity below 1.
  explicit GraphCache(std::size_t capacity) : capacity_(capacity) {
    DOVETAIL_CHECK(capacity >= 1, "a graph cache without room");
  }

  /// The entry of that key, now the most recently used one, or null. Valid until the next call that
  /// is not find, has_failed, digest, size or counters.
  Entry* find(const GraphKey& key) {
    const auto found = std::find_if(
        slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.key == key; });
    if (found == slots_.end()) {
      return nullptr;
    }
    std::rotate(slots_.begin(), found, found + 1);
    return &slots_.front().entry;
  }

  /// Evicts the least recently used entries until one more fits: before a capture, so that their
  /// memory is free for it.
  void make_room() {
    while (slots_.size() >= capacity_) {
      slots_.pop_back();
      ++counters_.evictions;
    }
  }

  /// Adds an entry as the most recently used one, after make_room(). Throws ContractError where the
  /// key is there already. Counts a capture.
  Entry& insert(const GraphKey& key, Entry entry) {
    DOVETAIL_CHECK(find(key) == nullptr, "captured twice: " + describe(key));
    make_room();
    slots_.insert(slots_.begin(), Slot{key, std::move(entry)});
    ++counters_.captures;
    return slots_.front().entry;
  }

  /// Captures of a key that fail before its steps run eagerly without another attempt.
  static constexpr std::ptrdiff_t kAttempts = 2;

  /// Remembers that a capture of this key has failed (on all ranks, by agreement). The last
  /// `capacity` failures are remembered.
  void note_failure(const GraphKey& key) {
    ++counters_.failures;
    failed_.insert(failed_.begin(), dovetail::digest(key));
    failed_.resize(std::min(failed_.size(), capacity_));
  }

  /// Whether no more attempts are left.
  bool has_failed(const GraphKey& key) const {
    return std::count(failed_.begin(), failed_.end(), dovetail::digest(key)) >= kAttempts;
  }

  /// Drops all entries and remembered failures; the counters stay. No eviction is counted.
  void clear() {
    slots_.clear();
    failed_.clear();
  }

  /// Over the keys in order of use and the failures: equal on all ranks as long as they evolve
  /// alike (RankStep::graph_cache_digest).
  std::uint64_t digest() const {
    std::uint64_t hash = combine_hash(0, slots_.size());
    for (const Slot& slot : slots_) {
      hash = combine_hash(hash, dovetail::digest(slot.key));
    }
    for (const std::uint64_t key : failed_) {
      hash = combine_hash(hash, key);
    }
    return hash;
  }

  std::size_t size() const { return slots_.size(); }

  /// A captured step that the cache does not hold.
  void count_capture() { ++counters_.captures; }

  void count_replay() { ++counters_.replays; }

  void count_eager(EagerReason reason) { ++counters_.eager(reason); }

  const GraphCounters& counters() const { return counters_; }

 private:
  struct Slot {
    GraphKey key;
    Entry entry;
  };

  std::size_t capacity_;
  std::vector<Slot> slots_;            ///< most recently used first
  std::vector<std::uint64_t> failed_;  ///< digests of keys, newest first
  GraphCounters counters_;
};

}  // namespace dovetail
