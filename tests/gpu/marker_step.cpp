#include "tests/gpu/marker_step.hpp"

#include <algorithm>
#include <array>
#include <iostream>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/hash.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/graph_shape.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/exec/executor.hpp"
#include "framework/plan/policy.hpp"
#include "tests/gpu/graph_orders.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail::test {
namespace {

at::Tensor make(std::size_t size, at::ScalarType type) {
  return at::empty({static_cast<std::int64_t>(std::max<std::size_t>(size, 1))},
                   at::TensorOptions().device(at::kCUDA).dtype(type));
}

template <class T>
at::Tensor to_device(const std::vector<T>& values) {
  const auto tensor = make(values.size(), at::kInt);
  static_assert(sizeof(T) == 4);
  if (!values.empty()) {
    check_cuda(
        cudaMemcpy(tensor.data_ptr(), values.data(), values.size() * 4, cudaMemcpyHostToDevice),
        "copy to the device");
  }
  return tensor;
}

template <class T>
std::vector<T> to_host(const at::Tensor& tensor) {
  check_cuda(cudaDeviceSynchronize(), "wait for the device");
  std::vector<T> values(static_cast<std::size_t>(tensor.numel()));
  check_cuda(
      cudaMemcpy(
          values.data(), tensor.data_ptr(), values.size() * sizeof(T), cudaMemcpyDeviceToHost),
      "copy from the device");
  return values;
}

void fill_bytes(const at::Tensor& tensor, int byte) {
  check_cuda(cudaMemset(tensor.data_ptr(), byte, tensor.nbytes()), "fill");
}

}  // namespace

MarkerStep::MarkerStep(const Schedule& schedule, std::int64_t spin_ns, std::int64_t comm_spin_ns)
    : schedule_(schedule), spin_ns_(spin_ns), comm_spin_ns_(comm_spin_ns) {
  const std::size_t num_ops = schedule_.ops.size();
  std::array<int, 2> last = {-1, -1};
  inputs_begin_.push_back(0);
  for (std::size_t i = 0; i < num_ops; ++i) {
    const Op& op = schedule_.ops[i];
    indices_[{op.layer, op.ubatch, op.group, op.phase}] = static_cast<int>(i);
    for (const int wait : op.waits) {
      inputs_.push_back(wait);
    }
    int& before_it = last[static_cast<std::size_t>(op.lane)];
    if (before_it >= 0) {
      inputs_.push_back(before_it);
    }
    before_it = static_cast<int>(i);
    inputs_begin_.push_back(static_cast<std::int32_t>(inputs_.size()));
  }
  device_inputs_begin_ = to_device(inputs_begin_);
  device_inputs_ = to_device(inputs_);
  seed_ = make(1, at::kLong);
  values_ = make(num_ops, at::kLong);
  sums_ = make(num_ops, at::kLong);
  ticket_ = make(1, at::kInt);
  tickets_ = make(num_ops, at::kInt);
  flag_ = make(1, at::kInt);
  missed_ = make(1, at::kInt);
  check_cuda(cudaStreamCreateWithFlags(&flag_stream_, cudaStreamNonBlocking), "create a stream");
  raise_flag();  // whatever CUDA loads for it must be there before a kernel waits for the flag
  reset(0);
}

MarkerStep::~MarkerStep() {
  static_cast<void>(cudaStreamDestroy(flag_stream_));
}

int MarkerStep::index_of(const Op& op) const {
  return indices_.at({op.layer, op.ubatch, op.group, op.phase});
}

MarkerBoard MarkerStep::board() const {
  return {.seed = static_cast<const std::uint64_t*>(seed_.data_ptr()),
          .inputs_begin = static_cast<const std::int32_t*>(device_inputs_begin_.data_ptr()),
          .inputs = static_cast<const std::int32_t*>(device_inputs_.data_ptr()),
          .values = static_cast<std::uint64_t*>(values_.data_ptr()),
          .ticket = static_cast<std::int32_t*>(ticket_.data_ptr()),
          .tickets = static_cast<std::int32_t*>(tickets_.data_ptr()),
          .flag = static_cast<std::int32_t*>(flag_.data_ptr()),
          .missed = static_cast<std::int32_t*>(missed_.data_ptr())};
}

int MarkerStep::num_kernels(const Op& op) {
  return op.lane == Lane::compute && !is_exchange(op.phase) ? 3 : 1;
}

void MarkerStep::run(const Op& op) {
  const c10::InferenceMode inference;
  const int index = index_of(op);
  if (before) {
    before(index, op);
  }
  if (!has_peers && is_exchange(op.phase)) {
    tell_no_work(c10::cuda::getCurrentCUDAStream());
    return;
  }
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  auto flag = MarkerFlag::none;
  if (index == raising_op) {
    flag = MarkerFlag::raise;
  } else if (index == awaiting_op) {
    flag = MarkerFlag::await;
  }
  auto* stamp = time_stamps == TimeStampUse::leave ? nullptr : take_time_stamp(stream);
  if (asked) {
    asked(index, op);
  }
  launch_marker(index,
                board(),
                op.lane == Lane::comm ? comm_spin_ns_ : spin_ns_,
                flag,
                await_ns,
                stream,
                time_stamps == TimeStampUse::write ? stamp : nullptr);
  if (num_kernels(op) > 1) {
    const auto scratch = make(kScratch, at::kLong);
    auto* data = static_cast<std::uint64_t*>(scratch.data_ptr());
    launch_marker_spread(index, board(), data, kScratch, stream);
    auto* end = end_stamps == TimeStampUse::leave ? nullptr : take_end_stamp(stream);
    launch_marker_sum(index,
                      data,
                      kScratch,
                      static_cast<std::uint64_t*>(sums_.data_ptr()),
                      stream,
                      nullptr,
                      end_stamps == TimeStampUse::write ? end : nullptr);
  }
  if (behind) {
    behind(index, op);
  }
}

void MarkerStep::reset(std::uint64_t seed) {
  check_cuda(cudaDeviceSynchronize(), "wait for the device");
  for (const auto* tensor : {&values_, &sums_, &ticket_, &flag_, &missed_}) {
    fill_bytes(*tensor, 0);
  }
  fill_bytes(tickets_, 0xff);
  check_cuda(cudaMemcpy(seed_.data_ptr(), &seed, sizeof(seed), cudaMemcpyHostToDevice),
             "set a seed");
  check_cuda(cudaDeviceSynchronize(), "wait for the device");
}

void MarkerStep::raise_flag() {
  check_cuda(cudaMemsetAsync(flag_.data_ptr(), 1, 4, flag_stream_), "raise the flag");
  check_cuda(cudaStreamSynchronize(flag_stream_), "wait for the flag");
}

std::vector<std::uint64_t> MarkerStep::numbers() const {
  auto all = to_host<std::uint64_t>(values_);
  const auto sums = to_host<std::uint64_t>(sums_);
  all.insert(all.end(), sums.begin(), sums.end());
  return all;
}

int MarkerStep::missed() const {
  return to_host<std::int32_t>(missed_).front();
}

std::vector<std::string> MarkerStep::errors(std::uint64_t seed, PassKind pass) const {
  const std::size_t num_ops = schedule_.ops.size();
  const auto values = to_host<std::uint64_t>(values_);
  const auto sums = to_host<std::uint64_t>(sums_);
  const auto tickets = to_host<std::int32_t>(tickets_);
  std::vector<std::uint64_t> wanted(num_ops, 0);
  std::vector<std::string> found;
  int num_run = 0;
  for (std::size_t i = 0; i < num_ops; ++i) {
    const Op& op = schedule_.ops[i];
    const std::string name = describe_op(static_cast<int>(i), op);
    const bool runs = runs_in(pass, op.phase);
    num_run += runs ? 1 : 0;
    if (runs != (tickets[i] >= 0)) {
      found.push_back(name + (runs ? " did not run" : " ran"));
      continue;
    }
    if (!runs) {
      continue;
    }
    wanted[i] = combine_hash(seed, i);
    for (auto k = inputs_begin_[i]; k < inputs_begin_[i + 1]; ++k) {
      const auto input = static_cast<std::size_t>(inputs_[static_cast<std::size_t>(k)]);
      wanted[i] = combine_hash(wanted[i], wanted[input]);
      if (tickets[input] > tickets[i]) {
        found.push_back(name + " ended before op " + std::to_string(input));
      }
    }
    if (values[i] != wanted[i]) {
      found.push_back(name + ": value " + std::to_string(values[i]) + ", wanted " +
                      std::to_string(wanted[i]) + " (seed " + std::to_string(seed) + ")");
    }
    constexpr std::uint64_t kCount = kScratch;
    const auto sum = num_kernels(op) > 1 ? kCount * wanted[i] + kCount * (kCount - 1) / 2 : 0;
    if (sums[i] != sum) {
      found.push_back(name + ": sum " + std::to_string(sums[i]) + ", wanted " +
                      std::to_string(sum));
    }
  }
  const int ended = to_host<std::int32_t>(ticket_).front();
  if (ended != num_run) {
    found.push_back(std::to_string(ended) + " markers ended, wanted " + std::to_string(num_run));
  }
  return found;
}

std::string first_of(const std::vector<std::string>& errors) {
  std::string text;
  for (std::size_t i = 0; i < errors.size() && i < 4; ++i) {
    text += errors[i] + "; ";
  }
  return text + std::to_string(errors.size()) + " errors";
}

std::vector<std::pair<int, int>> overlapping_pairs(const Schedule& schedule) {
  const auto orders = schedule_orders(schedule);
  std::vector<std::pair<int, int>> pairs;
  const int num_ops = static_cast<int>(schedule.ops.size());
  for (int comm = 0; comm < num_ops; ++comm) {
    for (int compute = comm + 1; compute < num_ops; ++compute) {
      if (schedule.ops[static_cast<std::size_t>(comm)].lane == Lane::comm &&
          schedule.ops[static_cast<std::size_t>(compute)].lane == Lane::compute &&
          !orders.reaches(comm, compute)) {
        pairs.emplace_back(comm, compute);
      }
    }
  }
  return pairs;
}

std::mt19937_64 make_random() {
  const auto seed = testing::fresh_seed();
  std::cout << "seed " << seed << "\n";
  return std::mt19937_64(seed);
}

Schedule dual_batch(int num_layers, int num_ubatches) {
  const ModelShape model{
      std::vector<LayerShape>(static_cast<std::size_t>(num_layers), testing::kShared)};
  return policies().at("dual_batch").make_schedule({model, WorkPhase::prefill, num_ubatches});
}

std::vector<Schedule> marker_schedules(int num_random, std::mt19937_64& random) {
  auto schedules =
      testing::all_policy_schedules({testing::kDense, testing::kShared, testing::kMoe});
  for (int i = 0; i < num_random; ++i) {
    schedules.push_back(testing::random_schedule(random));
    schedules.push_back(testing::random_lean_schedule(random));
  }
  return schedules;
}

}  // namespace dovetail::test
