// Weights read once per dp group: replicas take them from the group's first rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"
#include "framework/step/weight_source.hpp"

namespace dovetail {

/// Broadcasts a tensor on a GPU from rank 0 of the dp group: enqueues on the current stream and
/// waits for the end, bounded. Called on all ranks of the group alike, with contiguous tensors of
/// one shape and type.
using DeviceBroadcast = std::function<void(at::Tensor&)>;

/// Decorates the source of dp_rank 0. All questions and read() are collective over the dp group, in
/// the same order and with the same arguments on all of its ranks. Where the inner source throws,
/// or what it enqueued on rank 0's GPU fails, all ranks throw before any data moves: rank 0 the
/// original, the others an InputError (or RunError) of the same text. All waits are bounded by the
/// wait policy, whose timeout must cover rank 0's reading of the largest tensor. For one thread.
class BroadcastSource final : public WeightSource {
 public:
  /// `inner` is null on all ranks but rank 0 of `dp_group`. Both must outlive this; nothing else
  /// may use the communicator meanwhile. Destinations in host memory travel over MPI, those on a
  /// GPU by `device_broadcast` (a ContractError where that is needed and empty).
  BroadcastSource(WeightSource* inner,
                  const MpiComm& dp_group,
                  WaitPolicy wait,
                  DeviceBroadcast device_broadcast = {});

  bool has(const std::string& name) const override;
  bool is_stored(const std::string& name) const override;
  void read(const WeightRequest& request) override;

  /// Whether the last call that threw has thrown on all ranks of the group, so that none of them
  /// waits for another.
  bool all_have_failed() const { return all_have_failed_; }

 private:
  template <class Act>
  std::int32_t share(const std::string& what, Act act) const;
  std::int32_t read_on_root(const WeightRequest& request, const std::string& what);
  void broadcast(std::byte* data, std::int64_t bytes, const std::string& what) const;

  WeightSource* inner_;
  const MpiComm& dp_group_;
  WaitPolicy wait_;
  DeviceBroadcast device_broadcast_;
  mutable bool all_have_failed_ = false;
};

}  // namespace dovetail
