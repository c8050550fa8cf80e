// What a build without CUDA says where an exchange between GPUs is to be made.
#include "framework/base/error.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/partition_bench.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange.hpp"

namespace dovetail {

std::unique_ptr<Exchange> make_nccl_exchange(BlockKind /*kind*/,
                                             const ExchangeShape& /*shape*/,
                                             const ExchangeSetting& /*setting*/) {
  throw InputError("this build has no CUDA; allowed for execution.device: auto, cpu");
}

std::unique_ptr<BenchDevice> make_gpu_bench_device(const MpiSession& /*session*/,
                                                   const WaitPolicy& /*wait*/) {
  throw InputError("this build has no CUDA; allowed for --device: auto, cpu");
}

PartitionBench bench_partition(const MpiSession& session,
                               const ExchangeBenchOptions& options,
                               const MakePartitionWorks& /*make_works*/,
                               const WaitPolicy& /*wait*/) {
  resolve_partition_options(options, session.world_size());
  throw InputError("bench partition needs a GPU for each rank, and this build is without CUDA");
}

}  // namespace dovetail
