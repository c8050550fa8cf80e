// Ranks that share too few cores start in an order that lets the first one speak first.
#pragma once

namespace dovetail {

/// Milliseconds that a process of a launcher sleeps before it loads its libraries. Where each core
/// has several ranks to start, these take seconds, and the first rank, which reads the experiment
/// and may have to refuse it, would wait for its turn among all: so the others let it go ahead. 0
/// elsewhere. Pure.
constexpr int start_delay_ms(int rank, int ranks_on_host, int cores) {
  constexpr int ranks_per_core = 4;
  constexpr int delay_ms = 1000;
  return rank > 0 && ranks_on_host > ranks_per_core * cores ? delay_ms : 0;
}

}  // namespace dovetail
