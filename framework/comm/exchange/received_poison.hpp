// What an exchange has received becomes no number once it has been used, so that whatever reads it
// a second time is seen.
#pragma once

#include "framework/comm/exchange/exchange.hpp"
#include "framework/plan/phase.hpp"

namespace dovetail {

/// Fills the rows that `phase`, dispatch or combine, of the ubatch receives from other ranks with
/// NaN. On a GPU enqueued on the current stream. Thread and time: as Exchange's calls for the
/// ubatch, behind the call that has used the rows (arrange, finish) or between steps.
void poison_received(Exchange& exchange, int ubatch, Phase phase);

/// The same of both phases of the first `num_ubatches` ubatches. Between steps, behind begin_step.
void poison_all_received(Exchange& exchange, int num_ubatches);

}  // namespace dovetail
