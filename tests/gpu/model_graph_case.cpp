#include "tests/gpu/model_graph_case.hpp"

#include <algorithm>
#include <span>

#include <ATen/Context.h>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/quiet_torch.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/kv_cache.hpp"
#include "models/weights/seeded.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/small_model.hpp"

namespace dovetail::test {
namespace {

constexpr int kPageSize = 8;

/// small_config with sizes that the kernels for bfloat16 serve; 8 experts, 3 a token.
MoeDecoderConfig model_config() {
  MoeDecoderConfig config = small_config();
  config.hidden_size = 64;
  config.intermediate_size = 48;
  config.num_attention_heads = 8;
  config.head_dim = 16;
  config.moe_intermediate_size = 32;
  config.rope.mrope = {.section = {4, 2, 2}};
  return config;
}

/// New tokens and context of each request of a rank.
struct Lengths {
  std::vector<int> queries;
  std::vector<std::int64_t> contexts;
};

/// Rank 0 always has the most, so that no ubatch is empty on all ranks.
Lengths prefill_lengths(int batch, int rank) {
  return {.queries = batch == 0 ? std::vector<int>{24 - 5 * rank, 3 + rank, 10}
                                : std::vector<int>{6 + 4 * rank, 17, 2 * (rank % 2)},
          .contexts = {0, 0, 0}};
}

/// Of six requests the first `rank` have no token; six halve and divide by three.
Lengths decode_lengths(int batch, int rank) {
  Lengths lengths;
  for (int request = 0; request < 6; ++request) {
    lengths.queries.push_back(request < rank ? 0 : 1);
    lengths.contexts.push_back(batch == 0 ? 5 + 13 * request + 7 * rank : 40 - 6 * request + rank);
  }
  return lengths;
}

std::int64_t keys_of(const Request& request) {
  return request.context_length + request.query_length;
}

std::span<const std::int64_t> tokens_of(const StepBounds& bounds) {
  return std::span(bounds.tokens).first(static_cast<std::size_t>(bounds.num_ubatches));
}

KvCache copy_of(const KvCache& cache) {
  KvCache copy;
  for (const auto& keys : cache.keys) {
    copy.keys.push_back(keys.clone());
  }
  for (const auto& values : cache.values) {
    copy.values.push_back(values.clone());
  }
  return copy;
}

CudaExecutorOptions executor_options() {
  auto options = own_gpu();
  if (auto* comm = test_comm(); comm != nullptr) {
    options.on_poll = [comm] { comm->check_async(); };
    options.cancel_comm = [comm] { comm->abort(); };
  }
  return options;
}

}  // namespace

std::string name_of(const ModelGraphSetting& setting) {
  return setting.policy + std::to_string(setting.num_ubatches) + "_" +
         (setting.num_groups > 1 ? std::to_string(setting.num_groups) + "groups_" : "") +
         std::string(to_string(setting.phase)) + "_" + setting.exchange + "_" +
         (setting.hand_off == HandOff::threads ? "threads" : "inline");
}

void PrintTo(const ModelGraphSetting& setting, std::ostream* out) {
  *out << name_of(setting);
}

ModelGraphCase::ModelGraphCase(const ModelGraphSetting& setting)
    : setting_(setting),
      seed_(setting.seed != 0 ? setting.seed : fresh_seed()),
      device_(at::kCUDA, static_cast<c10::DeviceIndex>(host_place().index)) {
  make_model();
  schedule_ = policies()
                  .at(setting.policy)
                  .make_schedule({.model = model_->shape(),
                                  .phase = setting.phase,
                                  .num_ubatches = setting.num_ubatches,
                                  .num_groups = setting.num_groups});
  check_schedule(schedule_);
  make_batches();
  fill_cache();
  const auto& dims = model_->dims();
  auto shape = group_.shape(dims.num_experts / group_.size, dims.top_k);
  shape.hidden = dims.hidden;
  shape.dtype = dims.dtype;
  shape.num_ubatches = setting.num_ubatches;
  exchange_ = make_on_gpu(group_, setting.exchange, shape);
  padded_ = std::make_unique<PaddedBatch>(agree_on_bounds(), padded_shape(), device_);
  body_ = std::make_unique<ModelStep>(*model_, *exchange_, cache_, nullptr);
  watch_ = std::make_unique<NodeWatch>(schedule_, *body_);
  runner_ = std::make_unique<CudaStepRunner>(executor_options(), walk_by(setting.hand_off));
  check_cuda(cudaDeviceSynchronize(), "set-up of the case");
}

void ModelGraphCase::make_model() {
  const QuietTorch quiet;
  // As in the program: only cuBLASLt honours the number of SMs that GEMMs may use.
  at::globalContext().setBlasPreferredBackend(at::BlasBackend::Cublaslt);
  SeededSource source(seed_);
  model_ = MoeDecoderArchitecture(model_config())
               .make_model(source,
                           {.ep_size = group_.size,
                            .ep_rank = group_.rank,
                            .dtype = at::kBFloat16,
                            .device = device_});
}

void ModelGraphCase::make_batches() {
  const bool is_idle_in_second = has_peers() && is_last_rank();
  std::vector<std::int64_t> kv_tokens;
  for (int batch = 0; batch < kNumBatches; ++batch) {
    auto lengths = setting_.phase == WorkPhase::decode ? decode_lengths(batch, group_.rank)
                                                       : prefill_lengths(batch, group_.rank);
    if (batch == 1 && is_idle_in_second) {
      std::fill(lengths.queries.begin(), lengths.queries.end(), 0);
    }
    SerialStep step;
    const auto own = static_cast<std::uint64_t>(kNumBatches * group_.rank + batch);
    step.requests = random_requests(seed_ + own, lengths.queries);
    step.context_lengths = lengths.contexts;
    auto& given = batches_.emplace_back();
    given.workload = workload_of(step);
    const auto& requests = given.workload.batch.requests;
    kv_tokens.resize(requests.size(), 1);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      kv_tokens[i] = std::max(kv_tokens[i], keys_of(requests[i]));
    }
  }
  pages_ = allocate_kv_pages(kv_tokens, kPageSize, 0, seed_);
  for (auto& given : batches_) {
    given.inputs = make_step_inputs(given.workload, pages_, {}, device_);
    given.slices = split_batch(given.inputs.batch, {}, setting_.num_ubatches);
  }
}

/// Random up to the longest context of each request, NaN behind it.
void ModelGraphCase::fill_cache() {
  const auto& dims = model_->dims();
  cache_ = make_kv_cache(pages_, dims, model_->shape().num_layers(), device_);
  StepWorkload longest = batches_.front().workload;
  for (std::size_t i = 0; i < longest.batch.requests.size(); ++i) {
    auto& length = longest.batch.requests[i].context_length;
    length = std::max(length, batches_.back().workload.batch.requests[i].context_length);
  }
  fill_context_random(cache_, longest, pages_, dims, seed_);
  pristine_ = copy_of(cache_);
}

StepBounds ModelGraphCase::agree_on_bounds() const {
  const auto message_of = [](const GivenBatch& given) {
    return make_message(
        {.rank = session().rank(), .batch = given.inputs.batch, .slices = given.slices});
  };
  const auto both = reduce(message_of(batches_.front()), message_of(batches_.back()));
  const auto decision = decide(agree(group_.exchange_comm, both, group_.policy),
                               {.num_ubatches = setting_.num_ubatches, .phase = setting_.phase});
  DOVETAIL_CHECK_EQ(decision.bounds.num_ubatches, setting_.num_ubatches);
  for (const auto tokens : tokens_of(decision.bounds)) {
    DOVETAIL_CHECK(tokens > 0, "a ubatch is empty on all ranks");
  }
  return decision.bounds;
}

PaddedShape ModelGraphCase::padded_shape() const {
  return {.dims = model_->dims(),
          .num_layers = model_->shape().num_layers(),
          .max_pages = batches_.front().inputs.block_tables.size(1),
          .selection = {.logits = true, .routing = true}};
}

/// SMs that GEMMs leave to transfers beside them, as in the program.
int ModelGraphCase::comm_sms() const {
  const bool has_comm_lane = std::any_of(schedule_.ops.begin(),
                                         schedule_.ops.end(),
                                         [](const Op& op) { return op.lane == Lane::comm; });
  return has_peers() && has_comm_lane ? kTestCommSms : 0;
}

void ModelGraphCase::load(int batch) {
  const auto& given = batches_.at(static_cast<std::size_t>(batch));
  for (std::size_t layer = 0; layer < cache_.keys.size(); ++layer) {
    cache_.keys[layer].copy_(pristine_.keys[layer]);
    cache_.values[layer].copy_(pristine_.values[layer]);
  }
  padded_->load(given.inputs, given.slices, {});
  padded_->outputs().poison();
  exchange_->buffers().begin_step(padded_->tokens(), kTestCommSms);
  body_->begin(padded_->work(schedule_.num_groups), PassKind::full, false);
  check_cuda(cudaDeviceSynchronize(), "inputs of a step");
}

StepOutputs ModelGraphCase::outputs_of(int batch) const {
  exchange_->buffers().check_step();
  const auto shape = padded_shape();
  auto outputs = make_step_outputs(batches_.at(static_cast<std::size_t>(batch)).inputs,
                                   shape.dims,
                                   shape.num_layers,
                                   shape.selection,
                                   device_);
  padded_->store(outputs);
  check_cuda(cudaDeviceSynchronize(), "outputs of a step");
  return outputs;
}

StepOutputs ModelGraphCase::run_eager(int batch, OpTimes* times, bool gated) {
  load(batch);
  const SmPartition partition(comm_sms());
  runner_->run_eager(schedule_, *watch_, PassKind::full, times, gated);
  return outputs_of(batch);
}

std::unique_ptr<CapturedStep> ModelGraphCase::capture(bool instrumented) {
  load(0);
  watch_->forget();
  const SmPartition partition(comm_sms());
  return runner_->capture(schedule_, *watch_, PassKind::full, GraphMode::full, instrumented);
}

StepOutputs ModelGraphCase::replay(CapturedStep& step, int batch, OpTimes* times) {
  load(batch);
  runner_->replay(step, times);
  return outputs_of(batch);
}

}  // namespace dovetail::test
