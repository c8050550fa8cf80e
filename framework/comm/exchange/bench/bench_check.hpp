// How `dovetail bench exchange` tells right from wrong: what it moves once more, with other tokens
// or into memory that holds nothing right, and what it counts then.
#pragma once

#include <cstdint>
#include <functional>

#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_pass.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"

namespace dovetail {

/// Of this rank, after one move into memory without any word that is right. `meet` returns once all
/// ranks have come to it with their work done. Collective. Throws as the ceiling's check_status.
std::int64_t wrong_words_of(const BenchCeiling& ceiling, const std::function<void()>& meet);

/// Elements of this rank that are wrong in a pass of `layer` whose experts multiply their rows. A
/// run is made with `in`, which then takes the values of `make_other`, and is started: so of a
/// graph in a replay with another routing than was captured. Collective.
std::int64_t wrong_words_of(BenchPass& layer,
                            BenchDevice& device,
                            bool captured,
                            BenchTokens& in,
                            const std::function<BenchTokens()>& make_other,
                            const std::function<void()>& meet);

}  // namespace dovetail
