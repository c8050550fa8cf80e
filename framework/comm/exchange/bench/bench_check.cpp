#include "framework/comm/exchange/bench/bench_check.hpp"

namespace dovetail {

std::int64_t wrong_words_of(const BenchCeiling& ceiling, const std::function<void()>& meet) {
  ceiling.clear();
  meet();  // nobody's words come before
  ceiling.move();
  meet();
  ceiling.check_status();
  return ceiling.wrong_words();
}

std::int64_t wrong_words_of(BenchPass& layer,
                            BenchDevice& device,
                            bool captured,
                            BenchTokens& in,
                            const std::function<BenchTokens()>& make_other,
                            const std::function<void()>& meet) {
  at::Tensor output;
  const auto pass = [&] { output = layer.run(in.routed(), BenchExperts::factors); };
  if (captured) {
    pass();  // the memory of the experts is there
  }
  const auto checked = device.make_run([&](const auto&) { pass(); }, captured);
  const auto other = make_other();
  in.hidden.copy_(other.hidden);
  in.expert_ids.copy_(other.expert_ids);
  meet();
  checked->start();
  device.wait();
  return count_wrong(in, output);
}

}  // namespace dovetail
