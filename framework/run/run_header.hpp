// The first line of a run: what decides its times and its numbers. `dovetail check` prints it, too.
#pragma once

#include <string>
#include <vector>

#include "framework/plan/grid.hpp"
#include "framework/run/resolve.hpp"
#include "framework/run/run_context.hpp"

namespace dovetail {

/// Where the ranks are.
struct RunPlaces {
  int num_hosts = 1;  ///< 0 = not known
  bool on_gpu = false;
  std::vector<std::string> devices;  ///< of each rank: its GPU, or the model of its CPU
};

/// "run: 2 ranks on 1 host; cpu (Intel Xeon); expert parallel 2 x data parallel 1; dtype float32;
/// numerics fast; exchange ragged; link: shared memory of the host; 10 iterations after 2 of
/// warm-up", without a line end. What policies state differently is named behind the value of most
/// of them: "exchange ragged (dual_gather: gather)". Pure.
std::string describe_run(const Experiment& experiment,
                         const RankGrid& grid,
                         const RunPlaces& places,
                         const std::vector<ResolvedPolicy>& policies);

/// Says the first line of each run of a process on rank 0's stdout, unless it is that of the run
/// before (the points of a sweep).
class RunHeader {
 public:
  /// `device` and `hindrances` (overlap_hindrances.hpp) are this rank's; rank 0 warns of what
  /// hinders any rank. Collective over the world. Throws as
  /// gather_texts does.
  void print(const RunContext& context,
             const std::string& device,
             const std::vector<ResolvedPolicy>& policies,
             const std::vector<std::string>& hindrances);

 private:
  std::string last_;
};

}  // namespace dovetail
