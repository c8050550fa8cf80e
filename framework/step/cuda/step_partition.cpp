#include "framework/step/cuda/step_partition.hpp"

#include <algorithm>

#include "framework/mpi/collectives.hpp"
#include "framework/step/cuda/gpu_device.hpp"

namespace dovetail {

int sms_left_to_exchange(const StepSetup& setup, const Schedule& schedule, int schedule_index) {
  const auto& ops = schedule.ops;
  const bool has_comm_lane =
      std::any_of(ops.begin(), ops.end(), [](const Op& op) { return op.lane == Lane::comm; });
  const bool has_peers = setup.ranks.grid.expert_parallel > 1;
  const int comm_sms = setup.resolved.comm_sms_of(schedule_index);
  return has_peers && has_comm_lane && comm_sms != kAllSms ? comm_sms : 0;
}

const GreenPartition* find_partition(const StepSetup& setup) {
  const int comm_sms = sms_left_to_exchange(setup, setup.schedules.own, 0);
  if (setup.resolved.sm_partition == SmPartitionKind::soft || comm_sms == 0) {
    return nullptr;
  }
  const GreenPartition* partition = nullptr;
  run_on_all_ranks(setup.ranks.groups.world, setup.ranks.wait, [&] {
    partition = &setup.device.gpu().partition(comm_sms);
  });
  return partition;
}

}  // namespace dovetail
