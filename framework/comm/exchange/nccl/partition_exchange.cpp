#include "framework/comm/exchange/nccl/partition_exchange.hpp"

#include <utility>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/received_poison.hpp"

namespace dovetail {
namespace {

constexpr std::uint64_t kSeed = 1;

}  // namespace

PartitionExchange::PartitionExchange(BenchDevice& device,
                                     const MpiSession& session,
                                     const ExchangeBenchOptions& options,
                                     std::function<void()> meet)
    : num_tokens_(options.tokens.front()), meet_(std::move(meet)) {
  const ExchangeShape shape = {.ep_size = session.world_size(),
                               .ep_rank = session.rank().value,
                               .num_experts = options.num_experts,
                               .top_k = options.top_k,
                               .hidden = options.hidden,
                               .dtype = at::kBFloat16};
  const auto setting = device.setting(options.comm_sms);
  const bool is_stated = !options.exchanges.empty();
  name_ = choose_exchange(is_stated ? options.exchanges.front() : "auto", /*on_gpu=*/true).name;
  try {
    exchange_ = make_exchange(name_, /*on_gpu=*/true, shape, setting);
  } catch (const InputError& error) {
    if (is_stated) {
      throw;
    }
    name_ = choose_exchange("auto", /*on_gpu=*/true, error.what()).name;
    exchange_ = make_exchange(name_, /*on_gpu=*/true, shape, setting);
  }
  tokens_ = make_bench_tokens(BenchRouting::balanced, shape, num_tokens_, kSeed, device.device());
}

void PartitionExchange::begin(int comm_sms) {
  const std::int64_t bounds[] = {num_tokens_};
  exchange_->buffers().begin_step(bounds, comm_sms);
  exchange_->prepare(0, tokens_.routed());
  auto plan = exchange_->plans().plan(0);
  exchange_->dispatch(0, 0);
  exchange_->reduce(0, 0, exchange_->arrange(0, 0).rows);
  exchange_->combine(0, 0);
  exchange_->finish(0);
  meet_();
  exchange_->plans().adopt(0, std::move(plan));
}

void PartitionExchange::run() const {
  exchange_->dispatch(0, 0);
  exchange_->combine(0, 0);
}

void PartitionExchange::poison() const {
  poison_all_received(*exchange_, 1);
}

std::int64_t PartitionExchange::count_wrong_elements() const {
  auto wrong = count_wrong(tokens_, exchange_->finish(0), /*scaled=*/false);
  exchange_->reduce(0, 0, exchange_->arrange(0, 0).rows);
  meet_();  // what comes next overwrites what a peer has looked at
  exchange_->combine(0, 0);
  wrong += count_wrong(tokens_, exchange_->finish(0), /*scaled=*/false);
  exchange_->buffers().check_step();
  return wrong;
}

}  // namespace dovetail
